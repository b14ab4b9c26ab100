"""When units fired, and where the animal was."""

from dataclasses import dataclass, replace

import numpy as np

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.recording import Recording


@dataclass(frozen=True, eq=False)
class SpikeTrains:
    """Spike times of each unit in s, and a position tracked meanwhile.

    Raises: Refusal for times that are not in order, spikes outside `start` to `stop`, and a position without as many
    times; NonFinite naming the first bad unit.

    >>> a = SpikeTrains(times=(np.array([0.1, 0.2, 0.9]), np.array([0.6])), start=0.0, stop=1.0)
    >>> a.binned(0.5).x
    array([[2., 0.],
           [1., 1.]], dtype=float32)
    """

    times: tuple[np.ndarray, ...]
    """[spikes] float64 for each unit"""
    start: float
    stop: float
    position: np.ndarray | None = None
    """[P, targets] float32"""
    position_times: np.ndarray | None = None
    """[P] float64"""
    targets: tuple[str, ...] = ()
    """what the columns of `position` are"""
    tetrode: np.ndarray | None = None
    """[units] which electrode each was seen on"""

    def __post_init__(self) -> None:
        if (self.position is None) != (self.position_times is None):
            raise Refusal(
                "SpikeTrains", expected="a position with its times", got="one without the other", do="Give both."
            )
        if self.tetrode is not None and len(self.tetrode) != len(self.times):
            raise Refusal(
                "SpikeTrains",
                expected=f"{len(self.times)} tetrodes, one for each unit",
                got=f"{len(self.tetrode)}",
                do="Give one for each, or none.",
            )
        for i, times in enumerate(self.times):
            self._check(f"unit {i}", times, self.start, self.stop)
        if self.position is not None and self.position_times is not None:
            self._check("position", self.position_times, -np.inf, np.inf)
            if self.position.ndim != 2 or len(self.position) != len(self.position_times) or not len(self.position):
                raise Refusal(
                    "SpikeTrains position",
                    expected=f"[{len(self.position_times)}, targets], one row for each time, at least one",
                    got=str(list(self.position.shape)),
                    do="Give as many positions as times.",
                )
            if not np.isfinite(self.position).all():
                row = int(np.argwhere(~np.isfinite(self.position))[0, 0])
                raise NonFinite(
                    f"SpikeTrains position: expected finite numbers, got NaN or Inf in row {row}. Repair it."
                )

    def _check(self, name: str, times: np.ndarray, start: float, stop: float) -> None:
        if not np.isfinite(times).all():
            raise NonFinite(f"SpikeTrains {name}: expected finite times, got NaN or Inf. Repair it or drop it.")
        if len(times) and (np.any(np.diff(times) < 0) or times[0] < start or times[-1] > stop):
            raise Refusal(
                f"SpikeTrains {name}",
                expected=f"times in order, from {start} s to {stop} s",
                got=f"{times.min()} s to {times.max()} s",
                do="Sort them, and widen start and stop to hold them.",
            )

    def part(self, start: float, stop: float) -> "SpikeTrains":
        """The spikes from `start` to before `stop`, both in s, and the positions that surround them, copied."""
        if not self.start <= start < stop <= self.stop:
            raise Refusal(
                "SpikeTrains.part",
                expected=f"{self.start} <= start < stop <= {self.stop}",
                got=f"start={start}, stop={stop}",
                do="Give both in seconds, on the clock of the recording.",
            )
        position, times = self.position, self.position_times
        if position is not None and times is not None:
            before = max(int(np.searchsorted(times, start, side="right")) - 1, 0)
            after = int(np.searchsorted(times, stop)) + 1
            position, times = position[before:after].copy(), times[before:after].copy()
        return replace(
            self,
            times=tuple(t[slice(*np.searchsorted(t, (start, stop)))].copy() for t in self.times),
            start=start,
            stop=stop,
            position=position,
            position_times=times,
        )

    def binned(self, width: float) -> Recording:
        """Spike counts in bins of `width` s, and the position in the middle of each, linear between those tracked.

        What is left at the end and is shorter than a bin is dropped.
        """
        bins = int((self.stop - self.start) / width + 1e-9) if width > 0 else 0
        if bins < 1:
            raise Refusal(
                "SpikeTrains.binned",
                expected=f"a width in s, more than 0 and at most {self.stop - self.start}",
                got=f"{width}",
                do="Give the width of a bin in seconds, 0.05 for instance.",
            )
        edges = self.start + width * np.arange(bins + 1)
        counts = [np.diff(np.searchsorted(t, edges)) for t in self.times]
        middle = (edges[:-1] + edges[1:]) / 2
        y = np.zeros((bins, 0), dtype=np.float32)
        if self.position is not None and self.position_times is not None:
            columns = [np.interp(middle, self.position_times, column) for column in self.position.T]
            y = np.stack(columns, axis=1).astype(np.float32)
        x = np.stack(counts, axis=1).astype(np.float32) if counts else np.zeros((bins, 0), dtype=np.float32)
        names = tuple(f"unit {i}" for i in range(len(self.times)))
        return Recording(x=x, y=y, channels=names, targets=self.targets, rate=1 / width)
