"""Bernoulli spikes from gap to gap in numpy: the truth."""

import numpy as np
from torch import Tensor

from ranvier.ops.spike_pack.spikes import Spikes

GOLDEN = 0x9E3779B97F4A7C15


def mixed(x: np.ndarray) -> np.ndarray:
    """64 bits of which each depends on all of x's.

    Source: Steele, Lea and Flood, OOPSLA 2014 (SplitMix64).
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def bernoulli_spikes(probability: Tensor, steps: int, seed: Tensor) -> Spikes:
    """Spikes [T, B, I] for float64 probabilities [B, I]."""
    batch, inputs = probability.shape
    chance = probability.numpy()
    neuron = np.arange(1, inputs + 1, dtype=np.uint64)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        key = mixed(seed.numpy().astype(np.uint64)[:, None] ^ mixed(neuron * np.uint64(GOLDEN)))
        slope, step, draw = np.log1p(-chance), np.full((batch, inputs), -1.0), 0
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        while (step < steps).any():
            draw += 1
            bits = mixed(key + np.uint64(draw) * np.uint64(GOLDEN))
            u = ((bits >> np.uint64(11)).astype(np.float64) + 1) * 2.0**-53
            gap = np.floor(np.log(u) / slope)
            step = np.where(chance > 0, step + 1 + gap, np.inf)
            sample, feature = np.nonzero(step < steps)
            found.append((step[sample, feature].astype(np.int64), sample, feature))
    when, sample, feature = (
        np.concatenate([columns[k] for columns in found]) if found else np.zeros(0, np.int64) for k in range(3)
    )
    return Spikes.from_events(when, sample, feature, (steps, batch, inputs))
