"""A program driven by events: chunks of any length in, the outputs of all complete steps out, memory of one size."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ranvier.core.checks import Refusal
from ranvier.core.files import load, save
from ranvier.data.events import Sensor
from ranvier.deploy.engine.admission import LATEST, MOST, REASONS, Admission, Clock, OnBad, time_step
from ranvier.deploy.engine.program import Live, Program
from ranvier.deploy.engine.stored import clocks, period, require_state

_OWN = "events:"
"""Begins the names of a state's entries that are not the program's."""
_LONGEST = 2**12
"""Silent steps after which it is looked anew whether the network rests; whole turns of all delays that are longer make a block."""
_CHUNKS = 1000
"""Chunks that wait apart."""
_SHORT = 16
"""Silent steps that are as well made as looked at."""


class Steps(NamedTuple):
    """Consecutive steps and what the program gave out in them."""

    first: int
    """The number of the first step."""
    length: int
    """How many steps `outputs` is of."""
    outputs: np.ndarray
    """[length, features]; fewer rows where the program pools time"""
    times: int = 1
    """How often these steps come, one after the other: more than once only where silence repeats itself exactly."""


class EventStream:
    """A program fed with events (t, x, y, p): step k counts those of start + k dt <= t < start + (k + 1) dt.

    `feed` checks a chunk and keeps it; `steps` goes through the steps that are complete, those before the step of the
    latest event, and `finish` through that one too. However the events are cut into chunks, outputs and states are the
    same to the bit. Steps without events advance as any other. Once silent steps have left every bit of the state as it
    was (looked at after 16 of them, or whole turns of all delays), those up to the next event can only repeat these outputs and
    are skipped: a network without leak waits for events alone, one with leak does when it has decayed, and no output
    differs from that of the run that steps through.

    Input: structured arrays, t in microseconds. `dt`: microseconds per step, a whole number or a fraction. `start`: the
    beginning of step 0, the first event's time by default. `once`: several events at one place in one step count once.
    `on_bad`: "raise" refuses a chunk with a bad event and takes nothing of it; "drop" leaves bad events out and counts
    them in `dropped` by reason: time (NaN, negative, beyond 2^53), outside (of the sensor), order (before an earlier
    one), gap (more than `max_gap` steps after the one before; None allows any, at the cost of as many steps as it takes
    to come to rest), crowd (more than 2^24 events in a step, up to which counts are exact).

    Raises: Refusal for bad events, a sensor of another size, a model that presents static pictures, foreign states.

    >>> import ranvier
    >>> from ranvier.data.events import events
    >>> from ranvier.deploy.engine.program import compile
    >>> model = torch.nn.Sequential(ranvier.Scale(torch.tensor([0.6, 1.2])), ranvier.IF())
    >>> stream = EventStream(compile(model, [2]), Sensor(2, polarities=1), dt=1000)
    >>> e = events(t=[0, 2500, 900_000], x=[0, 0, 1])
    >>> stream.outputs([e[:1], e[1:]]).nonzero(), stream.skipped
    ((array([  2, 900]), array([0, 1])), 880)
    """

    def __init__(
        self,
        program: Program,
        sensor: Sensor,
        dt: float | Fraction,
        *,
        start: int | None = None,
        once: bool = False,
        on_bad: OnBad = "raise",
        max_gap: int | None = 1_000_000,
        state: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        if program.head is not None:
            kinds = ", ".join(type(m).__name__ for m in program.head.children())
            do = "Give it pictures as frames, or train a model on events."
            raise Refusal("EventStream", expected="a model of sequences", got=f"one that begins with {kinds}", do=do)
        size = int(np.prod(program.shape))
        if int(np.prod(sensor.shape)) != size:
            got = f"{sensor}, whose steps are {list(sensor.shape)}"
            raise Refusal(
                "sensor", expected=f"one for steps of {list(program.shape)}", got=got, do="Give its true size."
            )
        self.program, self.once = program, once
        self.admission = Admission(sensor, time_step(dt), on_bad, max_gap)
        self.done = self.skipped = 0
        self._step, self._place = np.zeros(0, np.int64), np.zeros(0, np.int32)
        self._fed: list[tuple[np.ndarray, np.ndarray]] = []
        turn = period(program.lowered)
        self._clocks = clocks(program.lowered)
        self._block = turn * -(-_SHORT // turn)
        if start is not None:
            if not 0 <= start <= LATEST:
                raise Refusal("start", expected="a time from 0 to 2^53", got=repr(start), do="Correct it.")
            self.admission.clock = Clock(int(start), int(start), 0)
        inner = None if state is None else self._restored(state)
        self.live = Live(program, inner)

    @property
    def dropped(self) -> dict[str, int]:
        """How many events were left out, by reason."""
        return dict(self.admission.dropped)

    @property
    def seen(self) -> int:
        """How many events came in, good and bad."""
        return self.admission.seen

    @property
    def waiting(self) -> int:
        """How many events came in whose step has not been made."""
        self._join()
        return len(self._step)

    def time_of(self, step: int) -> int:
        """The microsecond in which a step begins."""
        dt = self.admission.dt
        return max(self.admission.clock.start, 0) + -(-step * dt.numerator // dt.denominator)

    def feed(self, events: np.ndarray) -> None:
        """Take a chunk of events, of any length.

        Raises: Refusal for a bad one with on_bad="raise"; nothing of the chunk is taken then.
        """
        self._fed.append(self.admission.admit(events))
        if len(self._fed) > _CHUNKS:
            self._join()

    def steps(self, until: int | None = None, most: int = 1024) -> Iterator[Steps]:
        """Go through the steps that are complete, at most `most` at a time; what was not iterated over stays for later.

        A step is complete when an event of a later one has come, or when it ends at or before `until`: the promise that
        no event before that time is still to come.
        """
        clock = self.admission.clock
        if clock.start < 0:
            return
        if until is not None and until > clock.latest:
            if until > LATEST:
                raise Refusal("until", expected="a time up to 2^53", got=repr(until), do="Correct it.")
            step = self.admission.step(until)
            self._refuse_gap(step - self.admission.step(clock.latest))
            self.admission.clock = Clock(clock.start, int(until), clock.crowd if step == self._last() else 0)
        yield from self._up_to(self._last(), most)

    def finish(self, most: int = 1024) -> Iterator[Steps]:
        """Go through all steps up to and with that of the latest event; what comes after belongs to later steps."""
        clock = self.admission.clock
        if clock.start >= 0:
            end = self._last() + 1
            yield from self._up_to(end, most)
            self.admission.clock = Clock(clock.start, max(clock.latest, self.time_of(end)), 0)

    def outputs(self, chunks: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
        """The outputs [T, features] of all steps of a whole recording, given at once or in chunks."""
        parts = [np.zeros((0, self.live.output.shape[1]), np.float32)]

        def keep(found: Iterator[Steps]) -> None:
            parts.extend(np.tile(s.outputs, (s.times, 1)) for s in found)

        for chunk in [chunks] if isinstance(chunks, np.ndarray) else chunks:
            self.feed(chunk)
            keep(self.steps())
        keep(self.finish())
        return np.concatenate(parts)

    def state(self) -> dict[str, np.ndarray]:
        """All that the further run depends on: the program's state, the clock, the counts, the events that wait."""
        self._join()
        clock, dt = self.admission.clock, self.admission.dt
        times = [dt.numerator, dt.denominator, clock.start, clock.latest, clock.crowd, self.done, self.skipped]
        counts = [self.admission.seen, *self.admission.dropped.values()]
        own: dict[str, np.ndarray] = {
            "clock": np.array(times, np.int64),
            "counts": np.array(counts, np.int64),
            "step": self._step.copy(),
            "place": self._place.copy(),
        }
        return self.live.state() | {f"{_OWN}{name}": value for name, value in own.items()}

    def save(self, path: str | Path) -> None:
        """Write the state as safetensors; `EventStream(..., state=stored(path))` goes on from there."""
        save({name: torch.from_numpy(value) for name, value in self.state().items()}, path)

    def _join(self) -> None:
        """Chunks as one: not for each, since many may come within one step."""
        if self._fed:
            self._step = np.concatenate([self._step, *(step for step, _ in self._fed)])
            self._place = np.concatenate([self._place, *(place for _, place in self._fed)])
            self._fed = []

    def _last(self) -> int:
        return self.admission.step(self.admission.clock.latest)

    def _refuse_gap(self, steps: int) -> None:
        if steps > self.admission.max_gap:
            got, (expected, do) = f"{steps} steps", REASONS["gap"]
            raise Refusal("events", expected=expected, got=got, do=do)

    def _up_to(self, end: int, most: int) -> Iterator[Steps]:
        if self.done < end:
            self._join()
        while self.done < end:
            following = min(int(self._step[0]), end) if len(self._step) else end
            if following - self.done >= 2 * self._block:
                yield from self._silent(following, most)
                continue
            count = min(end - self.done, max(1, most))
            near = self._step[: np.searchsorted(self._step, self.done + count)]
            if len(gaps := np.flatnonzero(np.diff(near, append=self.done + count) > 2 * self._block)):
                count = int(near[gaps[0]]) + 1 - self.done
            starts = np.searchsorted(self._step, np.arange(self.done, self.done + count + 1))
            last = int(starts[-1])
            outputs = self.live.events(starts, self._place[:last], self.once)
            first, self.done = self.done, self.done + count
            self._step, self._place = self._step[last:], self._place[last:]
            yield Steps(first, count, outputs)
        if self._step.base is not None:  # not the whole chunk for the few that wait
            self._step, self._place = self._step.copy(), self._place.copy()

    def _silent(self, end: int, most: int) -> Iterator[Steps]:
        """Steps without events: looked at after a block, then two, four ..., until they leave the state as it was."""
        block = self._block
        while self.done < end:
            whole = block <= end - self.done and block <= max(_LONGEST, self._block)
            count = block if whole else min(end - self.done, _LONGEST)
            before, then = (self._bytes() if whole else b""), self._times()
            outputs = []
            for part in range(0, count, max(1, most)):
                size = min(max(1, most), count - part)
                outputs.append(self.live.events(np.zeros(size + 1, np.int64), self._place[:0], self.once))
                first, self.done = self.done, self.done + size
                yield Steps(first, size, outputs[-1])
            times = (end - self.done) // count
            if whole and times and self._bytes() == before:
                self.skipped += times * count
                for number, began, ended in zip(self._clocks, then, self._times(), strict=True):
                    self.live.arrays[number][-1] += times * (ended - began)
                first, self.done = self.done, self.done + times * count
                yield Steps(first, count, np.concatenate(outputs), times)
            block = min(2 * block, max(self._block, _LONGEST // self._block * self._block))

    def _bytes(self) -> bytes:
        arrays = ((number, self.live.arrays[number]) for number in self.program.lowered.states.values())
        return b"".join((a[:-1] if number in self._clocks else a).tobytes() for number, a in arrays)

    def _times(self) -> list[int]:
        return [int(self.live.arrays[number][-1]) for number in self._clocks]

    def _restored(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take what is ours of a state; the program's part."""
        own = {name.removeprefix(_OWN): value for name, value in state.items() if name.startswith(_OWN)}
        inner = {name: value for name, value in state.items() if not name.startswith(_OWN)}
        kinds = {"clock": (np.int64, 7), "counts": (np.int64, 1 + len(REASONS)), "step": (np.int64, None)}
        for name, (kind, size) in (kinds | {"place": (np.int32, None)}).items():
            found = own.get(name)
            fine = isinstance(found, np.ndarray) and found.ndim == 1 and found.dtype == kind
            if not fine or (size is not None and len(found) != size):  # type: ignore[arg-type]
                raise _foreign(name, "missing or of another shape")
        num, den, start, latest, crowd, done, skipped = (int(n) for n in own["clock"])
        step, place, counts = own["step"], own["place"], own["counts"]
        if (num, den) != self.admission.dt.as_integer_ratio():
            got = f"{num}/{den}" if den not in (0, 1) else f"{num}"
            raise Refusal("state", expected=f"dt = {self.admission.dt} microseconds", got=got, do="Give the same dt.")
        clock = Clock(start, latest, crowd)
        begun = 0 <= start <= latest <= LATEST + 2 * num and 0 <= crowd <= MOST and 0 <= skipped <= done
        if not begun and (clock, done, skipped, len(step)) != (Clock(-1, -1, 0), 0, 0, 0):
            raise _foreign("clock", f"{own['clock'].tolist()}")
        now = (latest - start) * den // num
        size = int(np.prod(self.program.shape))
        if len(own) > 4 or done > now + 1 or (counts < 0).any() or counts[1:].sum() > counts[0]:
            raise _foreign("clock", "what does not agree")
        if (
            len(step) != len(place)
            or (np.diff(step) < 0).any()
            or (len(step) and not done <= step[0] <= step[-1] <= now)
        ):
            raise _foreign("step", "steps that do not rise to the latest one")
        if len(place) and (place.min() < 0 or place.max() >= size):
            raise _foreign("place", f"{place.min()} to {place.max()} of {size} places")
        require_state(self.program.lowered, inner)
        self.done, self.skipped, self._step, self._place = done, skipped, step.copy(), place.copy()
        self.admission.clock, self.admission.seen = clock, int(counts[0])
        self.admission.dropped = dict(zip(REASONS, counts[1:].tolist(), strict=True))
        return inner


def stored(path: str | Path) -> dict[str, np.ndarray]:
    """The state that `EventStream.save` wrote.

    Raises: Refusal for a file that is none.
    """
    return {name: value.numpy() for name, value in load(path).items() if _plain(value)}


def _plain(value: Any) -> bool:
    if value.dtype in (torch.float32, torch.int64, torch.int32):
        return True
    raise _foreign("", f"numbers of type {value.dtype}")


def _foreign(name: str, got: str) -> Refusal:
    do = "Give what state() of such a stream returned, or None to start at rest."
    return Refusal(f"state {_OWN + name!r}", expected="a stream's", got=got, do=do)
