"""What holds for every data set of the room."""

import os
import pickle
import re
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.core.discovery import discover
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Dataset, Labelled

SETS = {name: found.load() for name, found in discover("ranvier.data.sets", base="dataset").items()}
SPLITS = [(name, split) for name, kind in SETS.items() for split in kind.splits]
LABELLED = [(n, s) for n, s in SPLITS if issubclass(SETS[n], Labelled)]
PAIRS = [(n, s, s.replace("train", "test", 1)) for n, s in LABELLED if s.startswith("train")]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the suite's own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RANVIER_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@cache
def missing(name: str, split: str) -> str:
    """Why the files of a split can't be read here; empty where they can."""
    try:
        SETS[name]().smoke(split)
    except (Refusal, MissingPackage) as why:
        if os.environ.get("RANVIER_DATA") and all(not f.urls for f in SETS[name].files):
            raise  # the folder of copies holds what can't be downloaded
        return str(why)
    return ""


def made(name: str, split: str) -> Dataset:
    if why := missing(name, split):
        pytest.skip(f"{name}: {why}")
    return SETS[name]()


@cache
def loaded(name: str, split: str) -> Samples:
    return made(name, split).load(split)


@pytest.fixture(params=SETS)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return SETS[request.param]()


def equal(a: Samples, b: Samples) -> bool:
    arrays = zip([*a.x, a.y, a.group], [*b.x, b.y, b.group], strict=True)
    return a.classes == b.classes and all(p.dtype == q.dtype and np.array_equal(p, q) for p, q in arrays)


def contents(samples: Samples) -> set[tuple[bytes, int, int]]:
    return {(x.tobytes(), int(y), int(g)) for x, y, g in zip(samples.x, samples.y, samples.group, strict=True)}


def test_the_room_is_found() -> None:
    assert {"digits", "smartwatch"} <= SETS.keys()
    assert all(found.summary.endswith(".") for found in discover("ranvier.data.sets", base="dataset").values())


def test_the_facts_are_stated(dataset: Dataset) -> None:
    for fact in ("licence", "citation", "files", "splits"):
        assert getattr(type(dataset), fact), fact
    for file in dataset.files:
        assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", file.checksum), file
        assert not file.path.startswith("/") and ".." not in file.path
        assert re.fullmatch(r"[\w.-]+==[\w.]+: \S+", file.package or "a==1: b")
        assert all(re.fullmatch(r"https?://\S+", url) for url in file.urls)
        assert file.urls or file.package or file.note, f"{file.path}: nobody is told where to get it"
    assert len(set(dataset.splits)) == len(dataset.splits)
    assert (
        dataset.__doc__ and "Splits:" in dataset.__doc__ and "Source:" in dataset.__doc__ and ">>>" in dataset.__doc__
    )
    if isinstance(dataset, Labelled):
        assert len(set(dataset.classes)) == len(dataset.classes) > 1


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_every_split_has_a_small_real_part(name: str, split: str) -> None:
    assert made(name, split).smoke(split) is not None


@pytest.mark.parametrize(("name", "split"), LABELLED)
def test_every_split_holds_labelled_sequences(name: str, split: str) -> None:
    whole = loaded(name, split)
    few = made(name, split).smoke(split)
    assert 0 < len(few) <= min(len(whole), 2 * len(whole.classes))
    some = [whole.x[i] for i in range(0, len(whole), max(1, len(whole) // 500))]
    assert len({x.shape[1:] for x in [*few.x, *some]}) == 1
    assert all(len(x) > 0 and x.dtype == np.float32 and np.isfinite(x).all() for x in some)
    assert whole.y.dtype == np.int64 and set(few.y) == set(whole.y) == set(range(len(whole.classes)))
    assert whole.classes == SETS[name].classes and len(whole.group) == len(whole)
    assert contents(few) <= contents(whole.take(np.isin(whole.group, few.group)))
    assert few.batch().x.shape[1] == len(few)


@pytest.mark.parametrize(("name", "split"), LABELLED)
def test_a_split_is_the_same_every_time(name: str, split: str) -> None:
    first = made(name, split).smoke(split)
    again = SETS[name]().smoke(split)
    assert equal(first, again)
    again.x[0][:] = 7  # what one caller does to its arrays is no other's business
    assert equal(first, SETS[name]().smoke(split))


@pytest.mark.parametrize(("name", "train", "test"), PAIRS)
def test_nothing_is_trained_on_and_tested(name: str, train: str, test: str) -> None:
    learnt, judged = loaded(name, train), loaded(name, test)
    assert set(learnt.group).isdisjoint(judged.group)
    people = getattr(SETS[name](), "people", None)
    if people and "shared" not in (SETS[name].__doc__ or ""):
        assert set(people()[learnt.group]).isdisjoint(people()[judged.group])


def test_an_unknown_split_is_refused_by_the_nearest_name(dataset: Dataset) -> None:
    split = dataset.splits[-1]
    with pytest.raises(Refusal, match=f"Did you mean.*'{split}'"):
        dataset.load(split + "x")


@pytest.mark.parametrize("name", SETS)
def test_no_pickle_is_opened_once_the_cache_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = next((s for s in SETS[name].splits if not missing(name, s)), SETS[name].splits[0])
    dataset = made(name, split)
    dataset.smoke(split)
    for function in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, function, lambda *_, **__: pytest.fail("unpickled"))
    dataset.smoke(split)
