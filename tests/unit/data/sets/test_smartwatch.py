import os
import pickle
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data.samples import Samples
from ranvier.data.sets import smartwatch
from ranvier.data.sets.smartwatch import Smartwatch

DATA = os.environ.get("RANVIER_DATA")
COPY = "har_smartwatch/seglearn_watch_50hz.npz"
needs_copy = pytest.mark.skipif(
    not DATA or not (Path(DATA) / COPY).is_file(), reason=f"needs RANVIER_DATA with {COPY} in it"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no folder of copies."""
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    return tmp_path


def refuse_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("unpickled"))


def same(a: Samples, b: Samples) -> bool:
    arrays = zip([*a.x, a.y, a.group], [*b.x, b.y, b.group], strict=True)
    return a.channels == b.channels and all(p.dtype == q.dtype and np.array_equal(p, q) for p, q in arrays)


def test_without_a_copy_the_package_is_read_and_kept(cache: Path) -> None:
    samples = Smartwatch().load("all")
    assert [p.name for p in cache.iterdir()] == [f"smartwatch-{Smartwatch.files[0].checksum[:12]}.safetensors"]
    assert len(samples) == 140 and sum(map(len, samples.x)) == 244_102
    assert samples.rate == 50.0 and samples.channels == ("ax", "ay", "az", "wx", "wy", "wz")
    gravity = np.median([np.linalg.norm(x[:, :3], axis=1).mean() for x in samples.x])
    assert gravity == pytest.approx(1, abs=0.15)


def test_the_arrays_are_those_of_seglearn(cache: Path) -> None:
    from seglearn.datasets import load_watch

    known, samples = load_watch(), Smartwatch().load("all")
    assert all(np.array_equal(a.astype(np.float32), b) for a, b in zip(known["X"], samples.x, strict=True))
    assert np.array_equal(known["y"], samples.y) and tuple(known["y_labels"]) == samples.classes
    assert np.array_equal(known["subject"], Smartwatch().people()) and tuple(known["X_labels"]) == samples.channels


def test_seglearn_is_not_imported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.partition(".")[0] == "seglearn"]:
        monkeypatch.delitem(sys.modules, name)
    Smartwatch().load("all")
    assert "seglearn" not in sys.modules


def test_once_kept_it_is_never_unpickled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Smartwatch().load("all")
    refuse_pickle(monkeypatch)
    monkeypatch.setitem(sys.modules, "seglearn", None)  # not even the package is needed any more
    assert same(first, Smartwatch().load("all"))


def test_a_damaged_cache_is_rebuilt_and_said_once(cache: Path) -> None:
    first = Smartwatch().load("all")
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged") as said:
        assert same(first, Smartwatch().load("all"))
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(first, Smartwatch().load("all"))


def test_a_changed_pickle_is_refused_before_it_is_opened(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_pickle(monkeypatch)
    monkeypatch.setattr(Smartwatch, "files", (replace(Smartwatch.files[0], checksum="0" * 64),))
    with pytest.raises(Refusal, match=r"watch_dataset\.npy: expected a file with sha256 0000.*seglearn==1\.2\.5"):
        Smartwatch().load("all")
    assert list(cache.iterdir()) == []


def test_without_seglearn_the_line_that_installs_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "seglearn", None)
    with pytest.raises(MissingPackage, match=r"not installed.*pip install 'seglearn==1\.2\.5'"):
        Smartwatch().load("all")


def test_the_folder_of_copies_is_looked_at_first(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    Smartwatch().load("all")
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("RANVIER_DATA", str(folder))
    Smartwatch().load("all")  # no copy in it: the cache serves
    (folder / "har_smartwatch").mkdir()
    (folder / COPY).write_bytes(b"another file")
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(Refusal, match=r"seglearn_watch_50hz\.npz: expected a file with sha256"):
        Smartwatch().load("all")


@needs_copy
def test_both_ways_give_the_same_arrays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged, people = Smartwatch().load("all"), Smartwatch().people()
    assert DATA
    monkeypatch.setenv("RANVIER_DATA", DATA)
    monkeypatch.setattr(smartwatch, "cached", lambda *_: pytest.fail("the copy comes first"))
    refuse_pickle(monkeypatch)
    assert same(packaged, Smartwatch().load("all")) and np.array_equal(people, Smartwatch().people())


def test_the_five_folds_test_every_person_once(cache: Path) -> None:
    data = Smartwatch()
    people, tested = data.people(), []
    for k in range(5):
        train, test = data.load(f"train{k}"), data.load(f"test{k}")
        assert sorted([*train.group, *test.group]) == list(range(140))
        assert set(people[test.group]) == {2 * k + 1, 2 * k + 2}
        assert set(people[test.group]).isdisjoint(people[train.group])
        assert np.bincount(test.y).tolist() == [4] * 7
        tested += [*test.group]
    assert sorted(tested) == list(range(140))
