"""What can still be read of a file of events that is cut off or damaged."""

import re
import struct
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.aedat4 import _MAGIC, _field, _root
from ranvier.data.event_files import read_events
from ranvier.data.events import Sensor, events


class Intact(NamedTuple):
    """The events before the place where a file is broken."""

    events: np.ndarray
    sensor: Sensor | None
    why: Refusal | None
    """what is wrong with the rest, and at which byte; None for a whole file"""


def read_intact(path: str | Path) -> Intact:
    """What `read_events` gives; of a file that it refuses, what lies before the byte that the refusal names.

    Raises: Refusal where nothing of it can be read: another kind of file, a header that is damaged, an archive (.npz).

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "cut.bin")
    ...     _ = file.write_bytes(bytes([12, 30, 128, 1, 2, 13, 30]))
    ...     found = read_intact(file)
    >>> found.events["x"].tolist(), "at byte 5" in str(found.why)
    ([12], True)
    """
    path = Path(path)
    try:
        return Intact(*read_events(path), None)
    except Refusal as refusal:
        why = refusal
    data = path.read_bytes()
    if path.suffix.lower() == ".npy":
        return Intact(_rows(path, data, why), None, why)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"{path.stem}{path.suffix}")
        said = str(why)
        if path.suffix.lower() == ".aedat4":
            data = _without_table(data)
            copy.write_bytes(data)
            try:  # without the table that is missing, the packets tell where it broke
                return Intact(*read_events(copy), why)
            except Refusal as inner:
                said = str(inner)
        broken = re.search(r" at byte (\d+):", said)
        if broken is None or not 0 < int(broken[1]) <= len(data):
            raise why
        copy.write_bytes(data[: int(broken[1])])
        try:
            return Intact(*read_events(copy), why)
        except Refusal:
            raise why from None


def _rows(path: Path, data: bytes, why: Refusal) -> np.ndarray:
    """The whole rows of an array of events that was cut off."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(file)
        except Exception:  # numpy's tokenizer has errors of its own
            raise why from None
        names = kind.names or ()
        if len(shape) != 1 or kind.hasobject or not {"t", "x"} <= set(names):
            raise why
        rows = np.frombuffer(data, kind, min(shape[0], (len(data) - file.tell()) // kind.itemsize), file.tell())
    return events(*(rows[name] if name in names else None for name in "txyp"))


def _without_table(data: bytes) -> bytes:
    """An AEDAT 4 that says its packets go on to its end, as files do whose recording was broken off."""
    start = len(_MAGIC)
    try:
        (size,) = struct.unpack_from("<I", data, start)
        table = data[start : start + 4 + size]
        place = _field(table, _root(table), 1)
        if not place or place + 8 > len(table):
            return data
    except struct.error:
        return data
    return data[: start + place] + struct.pack("<q", -1) + data[start + place + 8 :]
