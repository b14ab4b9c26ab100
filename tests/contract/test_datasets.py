"""What holds for every data set of the room."""

import pickle
import re
from collections.abc import Iterator

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Dataset

SETS = {name: found.load() for name, found in discover("ranvier.data.sets", base="dataset").items()}
SPLITS = [(name, split) for name, kind in SETS.items() for split in kind.splits]
PAIRS = [(n, s, s.replace("train", "test", 1)) for n, s in SPLITS if s.startswith("train")]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Packages and a cache of the suite's own: neither a folder of copies nor the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.delenv("RANVIER_DATA", raising=False)
    patch.setenv("RANVIER_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


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
    for fact in ("licence", "citation", "source", "classes", "splits"):
        assert getattr(type(dataset), fact), fact
    assert re.fullmatch(r"[\w.-]+==[\w.]+: \S+|https://\S+", dataset.source)
    assert re.fullmatch(r"[0-9a-f]{64}", dataset.checksum)
    assert len(set(dataset.classes)) == len(dataset.classes) > 1
    assert len(set(dataset.splits)) == len(dataset.splits)
    assert (
        dataset.__doc__ and "Splits:" in dataset.__doc__ and "Source:" in dataset.__doc__ and ">>>" in dataset.__doc__
    )


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_every_split_loads_a_small_real_part(name: str, split: str) -> None:
    few, whole = SETS[name]().smoke(split), SETS[name]().load(split)
    assert 0 < len(few) <= min(len(whole), 64)
    assert len({x.shape[1:] for x in [*few.x, *whole.x]}) == 1
    assert all(len(x) > 0 and x.dtype == np.float32 and np.isfinite(x).all() for x in whole.x)
    assert whole.y.dtype == np.int64 and set(few.y) == set(whole.y) == set(range(len(whole.classes)))
    assert whole.classes == SETS[name].classes and len(whole.group) == len(whole)
    assert contents(few) <= contents(whole)
    assert few.batch().x.shape[1] == len(few)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_a_split_is_the_same_every_time(name: str, split: str) -> None:
    first = SETS[name]().load(split)
    again = SETS[name]().load(split)
    assert equal(first, again)
    again.x[0][:] = 7  # what one caller does to its arrays is no other's business
    assert equal(first, SETS[name]().load(split))


@pytest.mark.parametrize(("name", "train", "test"), PAIRS)
def test_nothing_is_trained_on_and_tested(name: str, train: str, test: str) -> None:
    learnt, judged = SETS[name]().load(train), SETS[name]().load(test)
    assert set(learnt.group).isdisjoint(judged.group)
    if people := getattr(SETS[name](), "people", None):
        assert set(people()[learnt.group]).isdisjoint(people()[judged.group])


def test_an_unknown_split_is_refused_by_the_nearest_name(dataset: Dataset) -> None:
    split = dataset.splits[-1]
    with pytest.raises(Refusal, match=f"Did you mean.*'{split}'"):
        dataset.load(split + "x")


def test_no_pickle_is_opened_once_the_cache_stands(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.load(dataset.splits[0])
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, lambda *_, **__: pytest.fail("unpickled"))
    dataset.smoke(dataset.splits[0])
