import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.events import Sensor, frames
from ranvier.data.sets.nmnist_small import NMNISTSmall

DATA = os.environ.get("RANVIER_DATA")
needs_copy = pytest.mark.skipif(
    not DATA or not Path(DATA, "nmnist_small").is_dir(), reason="needs RANVIER_DATA with nmnist_small in it"
)


@needs_copy
@pytest.mark.parametrize(
    ("split", "count", "total", "first"), [("train", 1000, 4_133_231, 5), ("test", 100, 385_596, 7)]
)
def test_the_recordings_are_all_there(split: str, count: int, total: int, first: int) -> None:
    whole, recordings = NMNISTSmall(steps=4).load(split), NMNISTSmall().events(split)
    assert len(whole) == len(recordings) == count and whole.y[0] == first
    assert sum(len(recordings[i]) for i in range(count)) == total
    for i in range(0, count, count // 10):
        assert whole.x[i].shape == (4, 2, 34, 34) and whole.x[i].sum() == len(recordings[i])
        assert np.array_equal(whole.x[i], frames(recordings[i], Sensor(34, 34), steps=4))
    assert whole.group[[0, -1]].tolist() == ([0, 999] if split == "train" else [60_000, 60_099])


@needs_copy
def test_a_caller_has_its_own_events() -> None:
    recordings = NMNISTSmall().events("test")
    recordings[0]["x"] = 0
    assert recordings[0]["x"].any()


def test_bad_steps_and_splits_are_refused() -> None:
    with pytest.raises(Refusal, match="steps=0"):
        NMNISTSmall(steps=0)
    with pytest.raises(Refusal, match="Did you mean 'test'"):
        NMNISTSmall().events("tests")


def test_without_a_copy_it_says_where_it_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    with pytest.raises(Refusal, match=r"SLAYER.*ranvier data get nmnist.*Set RANVIER_DATA"):
        NMNISTSmall().load("train")
