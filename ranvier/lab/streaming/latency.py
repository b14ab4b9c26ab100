"""Percentiles of very many times in little memory."""

import math

import numpy as np

_PER_DECADE = 50


class Latency:
    """A histogram of seconds in steps of 5 %, from 0.1 us to 1000 s.

    >>> latency = Latency()
    >>> for ms in range(1, 101):
    ...     latency.add(ms / 1000)
    >>> [round(1000 * latency.percentile(p)) for p in (50, 99)]
    [49, 98]
    """

    def __init__(self) -> None:
        self.counts = np.zeros(10 * _PER_DECADE, np.int64)

    def add(self, seconds: float) -> None:
        place = int((math.log10(max(seconds, 1e-7)) + 7) * _PER_DECADE)
        self.counts[min(place, len(self.counts) - 1)] += 1

    def percentile(self, percent: float) -> float:
        """Seconds within which so many of a hundred stayed; 0 before the first."""
        total = int(self.counts.sum())
        if total == 0:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self.counts), total * percent / 100))
        return float(10 ** ((place + 0.5) / _PER_DECADE - 7))
