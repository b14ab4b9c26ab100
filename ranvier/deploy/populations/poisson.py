"""Poisson numbers by comparing random words with thresholds."""

import math

import numpy as np


def thresholds(rate: float) -> np.ndarray:
    """A random 32-bit word that is above k of these stands for k: probabilities of a Poisson number of mean `rate`.

    >>> [round(float(t) / 2**32, 4) for t in thresholds(0.5)[:3]]
    [0.6065, 0.9098, 0.9856]
    """
    found: list[int] = []
    k, total = 0, 0.0
    while True:
        total += math.exp(k * math.log(rate) - rate - math.lgamma(k + 1))
        limit = math.ceil(total * 2.0**32) - 1
        if k > rate and limit >= 2**32 - 1 - 2**32 * 1e-13:
            break
        if k > rate and found and limit <= found[-1]:
            break
        found.append(min(max(limit, 0), 2**32 - 1))
        k += 1
    return np.array([*found, 2**32 - 1], np.uint32)


def guide(limits: np.ndarray) -> np.ndarray:
    """For the upper 8 bits of a word: below which threshold the search for it can begin."""
    lowest = np.arange(256, dtype=np.uint64) << np.uint64(24)
    return np.searchsorted(limits.astype(np.uint64), lowest, side="left").astype(np.int32)
