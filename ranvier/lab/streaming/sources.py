"""What a stream is read from: a data set's recordings, a file, or lines of text that come in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from inspect import signature
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ranvier.core.checks import Refusal, nearest
from ranvier.core.discovery import discover, find
from ranvier.data.event_lines import Lines
from ranvier.data.events import Sensor
from ranvier.data.folder import read_file
from ranvier.data.intact import read_intact
from ranvier.data.samples import Samples
from ranvier.deploy.engine.admission import Admission, OnBad
from ranvier.lab.saved import SavedRun

TEXT = (".jsonl", ".ndjson", ".json", ".txt", ".csv")
EVENTS = (".npy", ".npz", ".bin", ".dat", ".raw", ".aedat", ".aedat4")
_PIECE = 2**16  # bytes, or events
_SETS = ("ranvier.data.sets", "dataset")


@dataclass
class Recording:
    """One sequence from rest: chunks of events (structured arrays) or of frames [n, *shape]."""

    name: str
    chunks: Iterator[np.ndarray]
    """may end with a Refusal, where the source is broken"""
    label: str | None = None
    dt: Fraction | None = None
    """microseconds of a frame, where that is known"""
    dropped: dict[str, int] = field(default_factory=dict)
    """what was bad before it came here, by reason"""


@dataclass(frozen=True)
class Wanted:
    """What the network takes, and how the caller wants it."""

    run: SavedRun
    shape: tuple[int, ...]
    dt: Fraction | None
    on_bad: OnBad

    @property
    def sensor(self) -> Sensor:
        """What events of these steps come from.

        Raises: Refusal for steps that no sensor has.
        """
        format, shape = self.run.format, self.shape
        if format and format.sensor:
            return format.shrunk
        if len(shape) not in (1, 2, 3):
            got = f"steps of {list(shape)}"
            raise Refusal("events", expected="steps of [P, H, W], [P, W] or [W]", got=got, do="Give it frames.")
        if len(shape) == 3:
            return Sensor(shape[2], shape[1], shape[0])
        return Sensor(shape[-1], None, 1 if len(shape) == 1 else shape[0])

    @property
    def slices(self) -> int:
        """Slices of its time in which the run's recordings are counted; 0 where it doesn't say."""
        return self.run.format.steps if self.run.format else int(self.run.facts["settings"].get("steps", 0))

    @property
    def names(self) -> list[str]:
        """The fields of an event."""
        try:
            sensor = self.sensor
        except Refusal:
            return ["t", "x"]
        return ["t", "x", *["y"] * (sensor.height is not None), *["p"] * (sensor.polarities > 1)]


def recordings(source: str, wanted: Wanted, given: BinaryIO) -> Iterator[Recording]:
    """What `source` names: - (lines from `given`), a file, a data set's name or NAME:SPLIT, or test: the run's own.

    Raises: Refusal for anything else, and for what the network can't take.
    """
    path = Path(source)
    if source == "-":
        yield _lines("-", given, wanted)
    elif path.is_file():
        yield from _file(path, wanted)
    elif source.partition(":")[0] in {*discover(*_SETS), "test"}:
        yield from _dataset(source, wanted)
    else:
        do = f"Data sets: {nearest(source, discover(*_SETS))}"
        raise Refusal("--from", expected="-, a file, or a data set", got=repr(source), do=do)


def _file(path: Path, wanted: Wanted) -> Iterator[Recording]:
    suffix, format = path.suffix.lower(), wanted.run.format
    if format and format.kind != "events" and suffix in (".csv", ".wav", ".npy", ".npz"):
        yield Recording(str(path), iter([read_file(path, format)]))
        return
    if suffix in TEXT:
        with path.open("rb") as file:
            yield _lines(str(path), file, wanted)
        return
    if suffix not in EVENTS:
        do = nearest(suffix, (*TEXT, *EVENTS))
        raise Refusal(str(path), expected="a file of events or lines", got=path.suffix or "no suffix", do=do)
    found = read_intact(path)
    if wanted.dt is None and not wanted.slices:
        got = "a run that doesn't say"
        raise Refusal(str(path), expected="microseconds per step", got=got, do="Give --dt MICROSECONDS.")
    yield _recorded(str(path), found.events, wanted, None, found.why)


def _dataset(source: str, wanted: Wanted) -> Iterator[Recording]:
    name, _, split = source.partition(":")
    run = wanted.run
    own = name == "test" or (name == run.facts["recipe"] and not split)
    if own and wanted.dt is None:
        yield from _labelled(name, run.judged_on(), wanted)
        return
    kind = find("data set", run.facts["recipe"] if name == "test" else name, *_SETS).load()
    steps = run.facts["settings"].get("steps")
    data: Any = kind(**({"steps": steps} if steps and "steps" in signature(kind).parameters else {}))
    samples = data.load(split or "test")
    if wanted.dt is None:
        yield from _labelled(name, samples, wanted)
        return
    if not hasattr(data, "events"):
        raise Refusal(name, expected="recorded events for --dt", got="frames", do="Leave out --dt.")
    for i, events in enumerate(data.events(split or "test")):
        yield _recorded(f"{name} {i}", events, wanted, samples.classes[samples.y[i]], None)


def _labelled(name: str, samples: Samples, wanted: Wanted) -> Iterator[Recording]:
    dt = Fraction(1_000_000) / Fraction(samples.rate).limit_denominator(1000) if samples.rate else None
    for i in range(len(samples)):
        x = np.asarray(samples.x[i], np.float32)
        if x.shape[1:] != wanted.shape:
            got, do = f"{list(x.shape[1:])}", "Take the data that the run was trained on."
            raise Refusal(name, expected=f"steps of {list(wanted.shape)}", got=got, do=do)
        yield Recording(f"{name} {i}", iter([x]), samples.classes[samples.y[i]], dt)


def _recorded(name: str, events: np.ndarray, wanted: Wanted, label: str | None, why: Refusal | None) -> Recording:
    """Events as they are with a time step; else counted in slices of their time, as the run was trained."""
    if wanted.run.format and wanted.run.format.shrink > 1:
        events = events.copy()
        for axis in {"x", "y"} & set(events.dtype.names or ()):
            events[axis] //= wanted.run.format.shrink
    if wanted.dt is not None:
        return Recording(name, _pieces(events, why), label, wanted.dt)
    counted, dt, dropped = sliced(events, wanted.sensor, wanted.slices, wanted.on_bad)
    return Recording(name, _pieces(counted.reshape(-1, *wanted.shape), why), label, dt, dropped)


def sliced(
    events: np.ndarray, sensor: Sensor, steps: int, on_bad: OnBad
) -> tuple[np.ndarray, Fraction, dict[str, int]]:
    """Events counted in `steps` equal slices of their time, the microseconds of one, and what was dropped by reason.

    >>> from ranvier.data.events import events
    >>> frames, dt, dropped = sliced(events(t=[5, 10, 15], x=[0, 1, 7]), Sensor(2, polarities=1), 2, "drop")
    >>> frames.tolist(), float(dt), dropped["outside"]
    ([[1.0, 0.0], [0.0, 1.0]], 2.5, 1)
    """
    door = Admission(sensor, Fraction(1), on_bad, None)
    t, place = door.admit(events)
    cells = int(np.prod(sensor.shape))
    if len(t) == 0:
        return np.zeros((steps, cells), np.float32), Fraction(1), door.dropped
    step = np.minimum(t * steps // max(int(t[-1]), 1), steps - 1)
    counted = np.bincount(step * cells + place, minlength=steps * cells).astype(np.float32)
    return counted.reshape(steps, cells), Fraction(max(int(t[-1]), 1), steps), door.dropped


def _pieces(array: np.ndarray, why: Refusal | None) -> Iterator[np.ndarray]:
    for start in range(0, len(array), _PIECE):
        yield array[start : start + _PIECE]
    if why is not None:
        raise why


def _lines(name: str, given: BinaryIO, wanted: Wanted) -> Recording:
    lines = Lines(wanted.shape, wanted.names, wanted.on_bad, name)
    dropped: dict[str, int] = {}
    read: Any = getattr(given, "read1", given.read)  # what is there, without waiting for more

    def chunks() -> Iterator[np.ndarray]:
        while piece := read(_PIECE):
            yield from _kept(lines.feed(piece))
            dropped["unreadable"] = lines.unreadable
        yield from _kept(lines.end())

    return Recording(name, chunks(), None, wanted.dt, dropped)


def _kept(array: np.ndarray) -> Sequence[np.ndarray]:
    return [array] if len(array) else []
