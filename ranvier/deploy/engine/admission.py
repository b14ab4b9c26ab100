"""What of the events that come in is let through to a program: bad ones are refused or dropped, and always counted."""

from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.events import Sensor, cell_numbers

OnBad = Literal["raise", "drop"]
LATEST = 2**53
"""Microseconds: 285 years; a later time is damage, and what floats hold exactly ends here."""
MOST = 2**24
"""Events of one step: up to here their number is exact in float32."""
FINEST = 512
"""The largest denominator of a time step, so that products of times with it fit 64 bits."""
REASONS = {
    "time": ("times from 0 to 2^53", "Subtract the first time, or repair the clock of the recording."),
    "outside": ("whole places inside the sensor", "Give the sensor's true size, or cut the events."),
    "order": ("times in order", "Sort them with time_order(events), as far as they are known."),
    "gap": ("a gap of at most max_gap steps", "Give a larger max_gap, or start a new stream after the gap."),
    "crowd": (f"at most {MOST} events in one step", "Take a shorter dt."),
}
"""Why an event is bad: what is expected, and what to do."""


class Clock(NamedTuple):
    """Where a stream stands: its beginning and the latest time accepted (microseconds, -1 before the first event)."""

    start: int
    latest: int
    crowd: int
    """Events so far in the step of `latest`."""


def time_step(dt: Any) -> Fraction:
    """Microseconds per step, as a fraction that is exact to 1e-9.

    >>> time_step(1000), time_step(1000 / 3)
    (Fraction(1000, 1), Fraction(1000, 3))
    """
    try:
        exact = Fraction(dt)
        step = exact.limit_denominator(FINEST)
        fine = 0 < step <= LATEST and abs(step - exact) <= exact / 10**9
    except (TypeError, ValueError, OverflowError):
        fine = False
    if not fine:
        do = f"Give whole microseconds, or a fraction with a denominator up to {FINEST}."
        raise Refusal("dt", expected="microseconds per step, above 0", got=repr(dt), do=do)
    return step


class Admission:
    """Checks each chunk of events and turns it into steps and places; `dropped` counts what was bad, by reason."""

    def __init__(self, sensor: Sensor, dt: Fraction, on_bad: OnBad, max_gap: int | None) -> None:
        if on_bad not in ("raise", "drop"):
            raise Refusal("on_bad", expected="'raise' or 'drop'", got=repr(on_bad), do="Choose one.")
        if max_gap is not None and max_gap < 1:
            raise Refusal("max_gap", expected="1 step or more, or None", got=repr(max_gap), do="Choose one.")
        self.sensor, self.dt, self.on_bad = sensor, dt, on_bad
        self.max_gap = LATEST * FINEST if max_gap is None else max_gap
        self.seen = 0
        self.refused = -1
        """Which event of its chunk the last refusal was about."""
        self.dropped = dict.fromkeys(REASONS, 0)
        self.clock = Clock(-1, -1, 0)

    def step(self, t: int) -> int:
        """The number of the step in which `t` lies."""
        return (t - self.clock.start) * self.dt.denominator // self.dt.numerator

    def admit(self, array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The steps (int64) and places (int32) of the good events of a chunk; with "raise" all are good or none is taken.

        Raises: Refusal for a bad event, saying which; and always for what is no array of events.
        """
        columns = self._columns(array)
        t, bad_time = _whole_times(columns["t"])
        bad_place = self._outside(columns)
        good = np.flatnonzero(~(bad_time | bad_place))
        clock = self.clock
        if clock.start < 0 and len(good):
            clock = Clock(int(t[good[0]]), int(t[good[0]]), 0)
        num, den = self.dt.numerator, self.dt.denominator
        steps = (t[good] - max(clock.start, 0)) * den // num
        kept, late, far, crowded, clock = self._in_order(t[good], steps, clock)
        counts = {
            "time": bad_time,
            "outside": bad_place & ~bad_time,
            "order": _at(good[late], len(t)),
            "gap": _at(good[far], len(t)),
            "crowd": _at(good[crowded], len(t)),
        }
        wrong = {reason: int(mask.sum()) for reason, mask in counts.items()}
        if self.on_bad == "raise" and any(wrong.values()):
            raise self._refusal(counts, columns)
        self.clock = clock
        self.seen += len(t)
        for reason, number in wrong.items():
            self.dropped[reason] += number
        chosen = good[kept]
        small = {name: c[chosen] for name, c in columns.items()}
        return steps[kept], _places(small, self.sensor)

    def _columns(self, array: Any) -> dict[str, np.ndarray]:
        names = getattr(getattr(array, "dtype", None), "names", None) or ()
        wanted = ["t", "x"] + ["y"] * (self.sensor.height is not None) + ["p"] * (self.sensor.polarities > 1)
        if not isinstance(array, np.ndarray) or array.ndim != 1 or not set(wanted) <= set(names):
            got = ", ".join(names) or type(array).__name__
            do = "Build them with events(t, x, y, p)."
            raise Refusal("events", expected=f"a structured array [N] with {', '.join(wanted)}", got=got, do=do)
        columns = {name: np.asarray(array[name]) for name in wanted}
        for name, c in columns.items():
            if c.ndim != 1 or c.dtype.kind not in ("iuf" if name != "p" else "iufb"):
                do = "Build them with events(t, x, y, p)."
                raise Refusal(f"events field {name}", expected="numbers", got=str(array.dtype[name]), do=do)
        return {name: c.astype(np.float64) if c.dtype.kind == "f" else c for name, c in columns.items()}

    def _outside(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        sizes = {"x": self.sensor.width, "y": self.sensor.height or 1, "p": self.sensor.polarities}
        bad = np.zeros(len(columns["t"]), bool)
        for name in columns.keys() & sizes.keys():
            c = columns[name]
            bad |= ~((c >= 0) & (c < sizes[name]))  # NaN is neither
            if c.dtype.kind == "f":
                bad |= c != np.floor(c)
        return bad

    def _in_order(
        self, t: np.ndarray, steps: np.ndarray, clock: Clock
    ) -> tuple[np.ndarray, list[int], list[int], list[int], Clock]:
        """Which events are kept, which are late, after too long a gap, and too many for their step; and the clock then."""
        if len(t) == 0:
            return np.zeros(0, np.int64), [], [], [], clock
        before = (clock.latest - clock.start) * self.dt.denominator // self.dt.numerator
        rising = t[0] >= clock.latest and not (t[1:] < t[:-1]).any()
        if rising and (np.diff(steps, prepend=before) <= self.max_gap).all() and len(t) + clock.crowd <= MOST:
            same = int(len(steps) - np.searchsorted(steps, steps[-1]))
            crowd = same + (clock.crowd if steps[-1] == before else 0)
            return np.arange(len(t)), [], [], [], Clock(clock.start, int(t[-1]), crowd)
        latest, step, crowd = clock.latest, before, clock.crowd
        kept: list[int] = []
        late: list[int] = []
        far: list[int] = []
        crowded: list[int] = []
        for i, (now, there) in enumerate(zip(t.tolist(), steps.tolist(), strict=True)):
            if now < latest:
                late.append(i)
            elif there - step > self.max_gap:
                far.append(i)
            elif there == step and crowd >= MOST:
                crowded.append(i)
            else:
                crowd = crowd + 1 if there == step else 1
                latest, step = now, there
                kept.append(i)
        return np.array(kept, np.int64), late, far, crowded, Clock(clock.start, latest, crowd)

    def _refusal(self, counts: dict[str, np.ndarray], columns: dict[str, np.ndarray]) -> Refusal:
        i, reason = min((int(np.argmax(mask)), reason) for reason, mask in counts.items() if mask.any())
        self.refused = i
        expected, do = REASONS[reason]
        event = ", ".join(f"{name}={c[i]}" for name, c in columns.items())
        got = f"{event} at event {self.seen + i}"
        return Refusal(
            "events", expected=expected, got=got, do=f'{do} Or leave such events out: on_bad="drop" (--on-bad drop).'
        )


def _at(index: Any, size: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[index] = True
    return mask


def _whole_times(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times as whole microseconds, and which are none from 0 to the latest."""
    bad = ~((t >= 0) & (t <= LATEST))  # NaN is neither
    if bad.any():
        t = np.where(bad, 0, t)
    return (np.rint(t) if t.dtype.kind == "f" else t).astype(np.int64), bad


def _places(columns: dict[str, np.ndarray], sensor: Sensor) -> np.ndarray:
    kinds = [(name, np.int64) for name in columns]
    array = np.empty(len(columns["t"]), kinds)
    for name, c in columns.items():
        array[name] = c
    return cell_numbers(array, sensor).astype(np.int32)
