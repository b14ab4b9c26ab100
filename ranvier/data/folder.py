"""One's own recordings: a folder for each class, a file for each recording, all read in one way that is kept."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.event_files import read_events
from ranvier.data.events import Sensor, frames, time_order
from ranvier.data.lazy import Mapped
from ranvier.data.origin import digest
from ranvier.data.samples import Samples
from ranvier.data.signal_files import Signal, numpy_arrays, read_array, read_csv, read_wav
from ranvier.data.sound import log_mel

Kind = Literal["signal", "sound", "events"]
SUFFIXES = (".csv", ".npy", ".npz", ".wav", ".bin", ".dat", ".raw", ".aedat", ".aedat4")
STEPS = 128
"""About how many steps a network sees of a signal or a sound."""
SIDE, LINE, SLICES = 34, 128, 10
"""Pixels of a camera's longer side, channels of a cochlea, and frames of a camera's recording, that a network sees."""
_LARGE = 2**28  # bytes: beyond, recordings are read again whenever they are asked for
_LAYOUT = "Put recordings in FOLDER/CLASS/, one folder for each class, one file for each recording."


@dataclass(frozen=True)
class Format:
    """All that is needed to read a new file as those of a folder were read, and to build a network for it.

    >>> Format.of(Format("signal", ("rest", "move"), ("ax", "ay"), 50.0).entries()).shape
    (2,)
    """

    kind: Kind
    classes: tuple[str, ...]
    channels: tuple[str, ...] = ()
    rate: float | None = None
    """Samples per second of signals and sounds, where the files state it."""
    sensor: Sensor | None = None
    shrink: int = 1
    """Pixels of the sensor along a side that are summed into one."""
    steps: int = 0
    """Frames of a recording of events."""
    pool: int = 1
    """Steps that a network averages at once; recordings are cut to a multiple of it."""
    bands: int = 40
    window: float = 0.025
    step: float = 0.010

    @property
    def shape(self) -> tuple[int, ...]:
        """Features of one step: [channels], or [P, H, W] of a camera."""
        if self.sensor is None:
            return (self.bands if self.kind == "sound" else len(self.channels),)
        shape = self.shrunk.shape
        return shape if len(shape) == 3 else (int(np.prod(shape)),)

    @property
    def shrunk(self) -> Sensor:
        """The sensor as the network sees it."""
        assert self.sensor
        height = self.sensor.height
        small = None if height is None else -(-height // self.shrink)
        return replace(self.sensor, width=-(-self.sensor.width // self.shrink), height=small)

    def entries(self) -> dict[str, Any]:
        """For JSON."""
        return {"ranvier format": 1, **asdict(self)}

    @classmethod
    def of(cls, entries: Mapping[str, Any]) -> "Format":
        """What `entries` gave.

        Raises: Refusal for anything else.
        """
        try:
            given = {f.name: entries[f.name] for f in fields(cls)}
            if entries["ranvier format"] != 1 or given["kind"] not in ("signal", "sound", "events"):
                raise ValueError
            given |= {name: tuple(given[name]) for name in ("classes", "channels")}
            return cls(**given | {"sensor": given["sensor"] and Sensor(**given["sensor"])})
        except (KeyError, TypeError, ValueError):
            do = "Copy it anew from the run's folder, or run again."
            raise Refusal("format", expected="what a run writes", got="something else", do=do) from None


class Folder(NamedTuple):
    """What lies in a folder: the recordings, how they are read, and the file of each."""

    samples: Samples
    format: Format
    files: tuple[str, ...]
    """relative to the folder"""
    digests: tuple[str, ...]
    """of the files' contents"""


def read_folder(path: str | Path) -> Folder:
    """All recordings in FOLDER/CLASS/, and how they are read: signals, sounds or events, one kind of them.

    A sample's group is the number of the first file with the same content, so copies can be kept on one side of a split.
    Hidden files are skipped. Large data are read again whenever they are asked for.

    Raises: Refusal for a folder without classes or with one only, classes with fewer than two different recordings, files
    of several kinds, rates, channels or sensors, unknown kinds of file, and damaged or empty ones, by name.
    """
    folder = Path(path)
    files, y, classes = listed(folder)
    opened, sums = _opened(folder, files)
    format = _format(folder, files, opened, classes)
    shown = tuple(str(file.relative_to(folder)) for file in files)
    group = np.array([sums.index(s) for s in sums])
    _enough(folder, shown, y, group, classes)
    x = _read(files, opened, format)
    channels = format.channels if format.kind == "signal" else ()
    rate = 1 / format.step if format.kind == "sound" else format.rate
    return Folder(Samples(x, y, classes, group, channels, rate), format, shown, tuple(sums))


def read_labelled(path: str | Path, format: Format) -> Folder:
    """The recordings in FOLDER/CLASS/, read as `format` says; any of its classes, any number of files.

    Raises: Refusal for other classes, and for files that can't be read so, by name.
    """
    folder = Path(path)
    files, number, found = listed(folder, least=1)
    if unknown := [name for name in found if name not in format.classes]:
        do = f"Name the folders like the classes of the run: {', '.join(format.classes)}."
        raise Refusal(str(folder), expected="known classes", got=", ".join(unknown), do=do)
    x = _each(folder, files, partial(read_file, format=format))
    y = np.array([format.classes.index(found[i]) for i in number], dtype=np.int64)
    shown = tuple(str(file.relative_to(folder)) for file in files)
    return Folder(Samples(x, y, format.classes), format, shown, tuple(map(digest, files)))


def read_file(path: str | Path, format: Format) -> np.ndarray:
    """The features of one recording [T, *format.shape], float32, read as `format` says.

    Raises: Refusal for another kind, rate, other channels or events outside the sensor, and for damaged files; NonFinite.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(str(path), expected="a file", got="none", do="Correct the path.")
    return _features(path, _open(path), format)


def fitted(x: np.ndarray, pool: int) -> np.ndarray:
    """A sequence [T, features] cut to a multiple of `pool` steps; a shorter one goes on with its last step.

    >>> [fitted(np.arange(n)[:, None], 4)[:, 0].tolist() for n in (9, 2)]
    [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 1, 1]]
    """
    if len(x) < pool:
        return np.concatenate([x, np.broadcast_to(x[-1:], (pool - len(x), *x.shape[1:]))])
    return x[: len(x) - len(x) % pool]


def listed(folder: Path, least: int = 2) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """The files in the folder's class folders, by class and name, their classes' numbers, and the classes' names.

    Raises: Refusal for a folder that is not laid out so, with files of unknown kinds, or fewer than `least` in a class.
    """
    if not folder.is_dir():
        raise Refusal(str(folder), expected="a folder", got="a file" if folder.exists() else "none", do=_LAYOUT)
    inside = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    kinds, loose = (
        [p for p in inside if p.is_dir()],
        [p for p in inside if not p.is_dir() and p.suffix.lower() in SUFFIXES],
    )
    if loose:
        got = f"{len(loose)} recording(s) outside any, such as {loose[0].name}"
        raise Refusal(str(folder), expected="folders of recordings", got=got, do=_LAYOUT)
    if len(kinds) < least:
        got = f"one class, {kinds[0].name!r}" if kinds else "none"
        raise Refusal(str(folder), expected=f"{least} class folder(s) or more", got=got, do=_LAYOUT)
    files, y = [], []
    for i, kind in enumerate(kinds):
        mine = sorted(p for p in kind.iterdir() if not p.name.startswith("."))
        for p in mine:
            if not p.is_file() or p.suffix.lower() not in SUFFIXES:
                got = "a folder" if p.is_dir() else "a broken link" if not p.exists() else "another kind of file"
                do = f"Move it away. Recordings end in {', '.join(SUFFIXES)}, and lie in their class's folder itself."
                raise Refusal(str(p), expected="a recording", got=got, do=do)
        if len(mine) < least:
            do = "Record more, or move the folder away."
            raise Refusal(str(kind), expected=f"{least} recording(s) or more", got=str(len(mine)), do=do)
        files += mine
        y += [i] * len(mine)
    return files, np.array(y, dtype=np.int64), tuple(p.name for p in kinds)


class _Opened(NamedTuple):
    """A file's facts, and its content unless there is too much of all of them."""

    kind: Kind
    channels: tuple[str, ...]
    rate: float | None
    sensor: Sensor | None
    """stated by the file, or what its coordinates need"""
    stated: bool
    steps: int
    content: Any


def _open(path: Path) -> _Opened:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        do = f"Recordings end in {', '.join(SUFFIXES)}."
        raise Refusal(str(path), expected="a recording", got=path.suffix or "no suffix", do=do)
    if suffix == ".csv" or suffix == ".wav" or (suffix in (".npy", ".npz") and not _holds_events(path)):
        read = {".csv": read_csv, ".wav": read_wav}.get(suffix, read_array)
        signal: Signal = read(path)
        kind: Kind = "sound" if suffix == ".wav" else "signal"
        return _Opened(kind, signal.channels, signal.rate, None, False, len(signal.x), signal.x)
    array, sensor = read_events(path)
    if len(array) == 0:
        raise Refusal(str(path), expected="a recording", got="no events", do="Delete it, or copy it anew.")
    names = array.dtype.names or ()
    needed = Sensor(
        int(array["x"].max()) + 1, int(array["y"].max()) + 1 if "y" in names else None, 2 if "p" in names else 1
    )
    return _Opened("events", (), None, sensor or needed, sensor is not None, len(array), time_order(array))


def _holds_events(path: Path) -> bool:
    arrays = numpy_arrays(path)
    if len(arrays) == 1:
        (only,) = arrays.values()
        return bool(only.dtype.names)
    return {"t", "x"} <= arrays.keys()


def _each(folder: Path, files: list[Path], read: Any) -> list[Any]:
    """What `read` makes of each file; one error for all that it refuses."""
    done, errors = [], []
    for file in files:
        try:
            done.append(read(file))
        except (Refusal, NonFinite) as why:
            errors.append(why)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        first = "\n  ".join(str(why) for why in errors[:5])
        do = "Repair them or move them away."
        raise Refusal(str(folder), expected="recordings", got=f"{len(errors)} that are none:\n  {first}\n", do=do)
    return done


def _opened(folder: Path, files: list[Path]) -> tuple[list[_Opened], list[str]]:
    """Each file opened once, and the digests of their contents."""
    held = 0

    def read(file: Path) -> tuple[_Opened, str]:
        nonlocal held
        one = _open(file)
        held += one.content.nbytes
        return (one if held <= _LARGE else one._replace(content=None)), digest(file)

    opened, sums = zip(*_each(folder, files, read), strict=True)
    return list(opened), list(sums)


def _format(folder: Path, files: list[Path], opened: list[_Opened], classes: tuple[str, ...]) -> Format:
    def one(what: str, values: list[Any], do: str) -> Any:
        """The value that all files share."""
        groups: dict[Any, list[Path]] = {}
        for file, value in zip(files, values, strict=True):
            groups.setdefault(value, []).append(file)
        if len(groups) == 1:
            return values[0]
        texts = [f"{v}: {p[0].relative_to(folder)} and {len(p) - 1} more" for v, p in groups.items()]
        got = "; ".join(text.replace(" and 0 more", "") for text in texts[:5])
        raise Refusal(str(folder), expected=f"one {what} in all files", got=got, do=do)

    kind: Kind = one("kind of recording", [o.kind for o in opened], "Train on each kind by itself.")
    rates = [o.rate for o in opened if o.rate is not None]
    same = len(rates) == len(opened) and _near(min(rates), max(rates))  # those from rounded times differ a little
    rate = (
        float(np.median(rates))
        if same
        else one("sampling rate (per second)", [o.rate for o in opened], "Resample them to one.")
    )
    median = int(np.median([o.steps for o in opened]))
    if kind == "signal":
        names = one(
            "set of channels",
            [o.channels for o in opened],
            "Give all the same columns, in the same order and spelling.",
        )
        return Format("signal", classes, names, rate, pool=max(1, round(median / STEPS)))
    if kind == "sound":
        form = Format("sound", classes, ("pressure",), rate)
        return replace(form, pool=max(1, round(median / rate / form.step / STEPS)))
    planes = [(o.sensor.height is None, o.sensor.polarities) for o in opened if o.sensor]
    one("kind of sensor (is a line, polarities)", planes, "Train on each by itself.")
    stated = {o.sensor for o in opened if o.stated}
    if stated:
        # a file that states none is taken to be of the same sensor; events outside are refused when it is read
        sensor = one(
            "sensor", [o.sensor if o.stated else next(iter(stated)) for o in opened], "Train on each by itself."
        )
    else:
        sensors = [o.sensor for o in opened if o.sensor]
        heights = [s.height for s in sensors if s.height is not None]
        sensor = replace(sensors[0], width=max(s.width for s in sensors), height=max(heights, default=None))
        logging.getLogger("ranvier").warning(
            "%s: no file states the size of its sensor; %d%s is taken, which all events fit.",
            folder,
            sensor.width,
            f" x {sensor.height}" if sensor.height else " channels",
        )
    if sensor.height is None:
        return Format("events", classes, sensor=sensor, shrink=-(-sensor.width // LINE), steps=STEPS)
    return Format("events", classes, sensor=sensor, shrink=-(-max(sensor.width, sensor.height) // SIDE), steps=SLICES)


def _near(a: Any, b: Any) -> bool:
    """Whether two rates are the same to 1 %."""
    return a is not None and b is not None and abs(a - b) <= 0.01 * min(a, b)


def _enough(folder: Path, files: tuple[str, ...], y: np.ndarray, group: np.ndarray, classes: tuple[str, ...]) -> None:
    for i in np.flatnonzero(y != y[group]):
        do = "Keep the one whose class is right."
        raise Refusal(str(folder), expected="one class a recording", got=f"{files[i]} = {files[group[i]]}", do=do)
    for k, name in enumerate(classes):
        if len(np.unique(group[y == k])) < 2:
            got = "copies of one"
            raise Refusal(str(folder / name), expected="two different recordings", got=got, do="Record more.")


def _read(files: list[Path], opened: list[_Opened], format: Format) -> list[np.ndarray] | Mapped:
    """The features of each file, kept where there is room."""
    size = 4 * int(np.prod(format.shape)) * format.steps * len(files)  # frames can be far larger than their events
    if size > _LARGE or any(o.content is None for o in opened):
        return Mapped([file.absolute() for file in files], partial(read_file, format=format))
    return [_features(file, one, format) for file, one in zip(files, opened, strict=True)]


def _features(path: Path, one: _Opened, format: Format) -> np.ndarray:
    given = [("kind", one.kind, format.kind, "Convert it.")]
    if format.kind != "events":
        given += [("sampling rate", one.rate, format.rate, "Resample it.")]  # type: ignore[list-item]
        given += [("channels", one.channels, format.channels, "Give it the same columns.")]  # type: ignore[list-item]
    for what, mine, theirs, do in given:
        if mine != theirs and not (what == "sampling rate" and _near(mine, theirs)):
            raise Refusal(f"{path}: {what}", expected=f"{theirs}, as in the data trained on", got=f"{mine}", do=do)
    if format.kind == "events":
        return _frames(path, one, format)
    x = one.content
    if format.kind == "sound":
        assert format.rate
        x = log_mel(x[:, 0], format.rate, format.bands, format.window, format.step)
    return fitted(x, format.pool)


def _frames(path: Path, one: _Opened, format: Format) -> np.ndarray:
    assert format.sensor and one.sensor
    sensor, mine = format.sensor, one.sensor
    fits = mine.width <= sensor.width and (mine.height or 1) <= (sensor.height or 1)
    same = (mine.height is None, mine.polarities) == (sensor.height is None, sensor.polarities)
    if not same or (one.stated and mine != sensor) or not fits:
        do = "Take recordings of one sensor."
        raise Refusal(f"{path}: sensor", expected=f"{sensor}, as in the data trained on", got=f"{mine}", do=do)
    small = one.content
    if format.shrink > 1:
        small = small.copy()
        for axis in ("x",) if sensor.height is None else ("x", "y"):
            small[axis] //= format.shrink
    try:
        counted = frames(small, format.shrunk, steps=format.steps)
    except Refusal as why:
        raise Refusal(str(path), expected="events in order, inside the sensor", got=str(why), do="Repair it.") from None
    return counted.reshape(len(counted), -1) if sensor.height is None else counted
