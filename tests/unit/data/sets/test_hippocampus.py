import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.data.recording import Recording
from ranvier.data.sets.hippocampus import Hippocampus

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in Hippocampus.files),
    reason="needs RANVIER_DATA with neural_hippocampus/ in it",
)


def test_both_recordings_have_their_units_and_spikes() -> None:
    track, maze = Hippocampus().load("linear-track"), Hippocampus().load("w-maze")
    assert len(track.times) == 31 and sum(map(len, track.times)) == 28_829
    assert len(maze.times) == 25 and sum(map(len, maze.times)) == 518_352
    assert int(np.argmax([len(t) for t in maze.times])) == 19 and len(maze.times[19]) == 461_464
    assert (track.stop - track.start) / 60 == pytest.approx(33, abs=0.5)
    assert (maze.stop - maze.start) / 60 == pytest.approx(73, abs=0.5)


def test_the_rat_is_tracked_within_the_picture_about_sixty_times_a_second() -> None:
    for split in Hippocampus.splits:
        whole = Hippocampus().load(split)
        assert whole.position is not None and whole.position_times is not None and whole.tetrode is not None
        assert (whole.position >= 0).all() and (whole.position < [640, 480]).all()
        assert np.median(np.diff(whole.position_times)) == pytest.approx(1 / 60, rel=0.01)
        assert len(whole.tetrode) == len(whole.times) and whole.targets == ("x", "y")


def test_every_spike_is_in_a_bin() -> None:
    whole = Hippocampus().load("linear-track")
    binned = whole.binned(0.25)
    end = whole.start + 0.25 * len(binned)
    assert binned.x.sum(0).tolist() == [(t < end).sum() for t in whole.times]


def errors(train: Recording, test: Recording) -> tuple[float, float]:
    """Of a naive Bayes decoder with Poisson counts, and of places drawn from the test: medians in pixels."""
    size = 16
    square = (train.y // size).astype(int) @ [100, 1]
    squares, index, occupied = np.unique(square, return_inverse=True, return_counts=True)
    rates = np.zeros((len(squares), train.x.shape[1]))
    np.add.at(rates, index, train.x)
    rates = (rates + 0.05) / (occupied[:, None] + 1)
    score = test.x @ np.log(rates).T - rates.sum(1) + np.log(occupied)
    best = squares[score.argmax(1)]
    places = (np.stack([best // 100, best % 100], 1) + 0.5) * size
    drawn = np.random.default_rng(0).permutation(test.y)
    return tuple(float(np.median(np.linalg.norm(p - test.y, axis=1))) for p in (places, drawn))  # type: ignore[return-value]


def test_where_the_rat_runs_can_be_decoded() -> None:
    binned = Hippocampus().load("linear-track").binned(0.25)
    moving = np.linalg.norm(np.gradient(binned.y, axis=0), axis=1) > 5
    parts = [
        Recording(x=binned.x[chosen], y=binned.y[chosen])
        for chosen in (moving & (np.arange(len(moving)) // 40 % 2 == half) for half in (0, 1))
    ]
    decoded, drawn = errors(*parts)
    assert decoded < 60 and drawn > 100


def test_the_small_part_is_a_minute() -> None:
    for split in Hippocampus.splits:
        few = Hippocampus().smoke(split)
        assert few.stop - few.start == pytest.approx(60) and sum(map(len, few.times)) > 100
        assert len(few.binned(0.25)) in (239, 240)
        few.times[0][:] = few.start
        assert Hippocampus().load(split).times[0][0] < Hippocampus().load(split).times[0][-1]
