"""Variations of recordings against their plain definitions."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from ranvier.data.augment import mixup, random_windows, rotation, stretched
from ranvier.data.samples import Samples


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def recordings(lengths: list[int], features: tuple[int, ...] = (3,), kind: Any = np.float32) -> Samples:
    rng = np.random.default_rng(0)
    x = [(100 * rng.normal(size=(n, *features))).astype(kind) for n in lengths]
    return Samples(x=x, y=np.arange(len(x)) % 2, classes=("a", "b"))


def by_feature(samples: Samples) -> Samples:
    """The same recordings, each feature for itself in memory."""
    flat, starts, lengths = samples.joined
    samples.__dict__["joined"] = np.asfortranarray(flat), starts, lengths
    return samples


def at(x: np.ndarray, places: np.ndarray) -> np.ndarray:
    flat = x.reshape(len(x), -1).astype(np.float64)
    columns = [np.interp(places, np.arange(len(x)), column) for column in flat.T]
    return np.stack(columns, 1).reshape(len(places), *x.shape[1:])


@pytest.mark.parametrize("samples", [
    recordings([40, 25, 60]),
    by_feature(recordings([40, 25, 60])),
    recordings([40, 25, 60], (2, 2)),
    recordings([40, 25], (), np.int16),
    recordings([10, 3, 10]),
], ids=["rows", "columns", "two-axes", "integers", "shorter-than-a-window"])  # fmt: skip
def test_windows_are_straight_stretches_of_the_recordings(samples: Samples) -> None:
    index, length = [1, 0, len(samples) - 1, 1], 20
    counted = Samples(x=[np.arange(len(x), dtype=np.float32) for x in samples.x], y=samples.y, classes=samples.classes)
    batch, speed = random_windows(samples, index, length, generator(), warp=0.2)
    places = random_windows(counted, index, length, generator(), warp=0.2)[0].x.numpy()
    assert batch.x.shape == (length, 4, *samples.x[0].shape[1:]) and batch.x.dtype == torch.float32
    assert np.allclose(np.diff(places, axis=0), speed.numpy(), atol=1e-4)
    assert batch.lengths.tolist() == [length] * 4 and batch.y.tolist() == samples.y[index].tolist()
    for b, i in enumerate(index):
        assert places[:, b].min() >= 0 and places[:, b].max() <= len(samples.x[i]) - 1
        assert np.allclose(batch.x[:, b], at(samples.x[i], places[:, b]), atol=0.02)


def test_a_recording_of_one_step_is_that_step() -> None:
    samples = recordings([1, 5, 1])
    for fetch in (samples, by_feature(recordings([1, 5, 1]))):
        batch = random_windows(fetch, [0, 2, 0], 4, generator())[0]
        assert torch.equal(batch.x, torch.from_numpy(np.concatenate([samples.x[i] for i in (0, 2, 0)])).expand(4, 3, 3))


def test_what_lies_beside_a_recording_does_not_reach_it() -> None:
    x = [np.ones((9, 1), np.float32), np.full((9, 1), np.inf, np.float32)]
    samples = Samples(x=x, y=np.array([0, 1]), classes=("a", "b"))
    assert bool((random_windows(samples, [0] * 50, 8, generator(), 0.3)[0].x == 1).all())
    batch = stretched(samples, [0] * 50, generator(), cut=0.0)
    assert set(batch.x.unique().tolist()) == {0.0, 1.0}


def test_stretched_sequences_run_from_end_to_end_and_are_padded_with_zeros() -> None:
    samples = recordings([30, 12, 20])
    index = [0, 1, 2, 1, 0]
    batch = stretched(samples, index, generator(), warp=0.2, cut=0.0)
    for b, i in enumerate(index):
        n = int(batch.lengths[b])
        assert np.allclose(batch.x[:n, b], at(samples.x[i], np.linspace(0, len(samples.x[i]) - 1, n)), atol=0.02)
        assert bool((batch.x[n:, b] == 0).all())
    assert len(set(batch.lengths.tolist())) > 2


def test_rotations_are_the_exponential_of_their_vectors() -> None:
    spread = (0.5, 1.0, 2.0)
    x, y, z = (torch.randn(500, 3, generator=generator()) * torch.tensor(spread)).double().unbind(1)
    zero = torch.zeros(500, dtype=torch.float64)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(500, 3, 3)
    assert torch.allclose(rotation(spread, 500, generator()).double(), torch.linalg.matrix_exp(skew), atol=1e-5)
    assert torch.equal(rotation((0.0, 0.0, 0.0), 2, generator()), torch.eye(3).expand(2, 3, 3))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_mixup_takes_the_same_share_of_the_neighbour_and_of_its_class(count: int) -> None:
    x, y = torch.randn(7, count, 3), torch.arange(count) % 3
    for given in (x, x.movedim(0, -1).contiguous().movedim(-1, 0)):  # in either order in memory
        mixed, shares = mixup(given, y, 3, 0.5, generator())
        share: Tensor = 0.5 * torch.rand(count, generator=generator())
        assert torch.allclose(mixed, torch.lerp(x, x.roll(1, 1), share[:, None]))
        assert torch.allclose(shares.sum(1), torch.ones(count)) and mixed.stride() == given.stride()
