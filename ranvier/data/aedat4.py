"""AEDAT 4.0, the files of iniVation's DV: packets of flatbuffers, compressed one by one."""

import re
import struct
from importlib import import_module
from pathlib import Path

import numpy as np

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data.events import Sensor, events
from ranvier.data.lz4_frames import decompressed

_MAGIC = b"#!AER-DAT4.0\r\n"
_EVENT = np.dtype(
    {"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "?"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
_COMPRESSION = ("none", "LZ4", "LZ4", "Zstandard", "Zstandard")


def read_aedat4(path: Path) -> tuple[np.ndarray, Sensor | None]:
    """The events of the file's first stream of events; frames, inertial data and triggers are left out.

    LZ4 is decompressed here, faster where the package lz4 is installed; Zstandard needs the package zstandard.

    Raises: Refusal for a damaged file, with the byte, and for one without events; MissingPackage.

    Source: iniVation, AEDAT 4.0, docs.inivation.com.
    """
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        got, do = repr(data[:14]), "Convert it to AEDAT 4 with iniVation's DV."
        raise Refusal(str(path), expected="AEDAT 4.0", got=got, do=do)
    place = len(_MAGIC)
    try:
        (size,) = struct.unpack_from("<I", data, place)
        if place + 4 + size > len(data):
            raise ValueError("its end within the header")
        compression, end, info = _header(data[place : place + 4 + size])
        place += 4 + size
        stream, sensor = _stream(info)
        end = end if end > 0 else len(data)
        if end > len(data):
            raise ValueError("its end before the table of packets")
        parts = []
        while place < end:
            number, size = struct.unpack_from("<iI", data, place)
            if place + 8 + size > len(data):
                raise ValueError("its end within a packet")
            if number == stream:
                parts.append(_packet(_expanded(data[place + 8 : place + 8 + size], compression)))
            place += 8 + size
    except (ValueError, IndexError, struct.error) as why:
        if isinstance(why, Refusal):
            raise
        do = "It is cut off or damaged: copy it anew from where it comes from."
        raise Refusal(f"{path} at byte {place}", expected="a packet", got=f"{why}", do=do) from why
    if stream is None:
        do = "Record the events too."
        raise Refusal(str(path), expected="a stream of events", got="none", do=do)
    found = np.concatenate(parts) if parts else np.zeros(0, dtype=_EVENT)
    return events(*(found[name] for name in "txyp")), sensor


def _field(table: bytes, root: int, number: int) -> int:
    """Where a flatbuffer's table holds a field; 0 where it has none."""
    (back,) = struct.unpack_from("<i", table, root)
    vtable = root - back
    (size,) = struct.unpack_from("<H", table, vtable)
    if 4 + 2 * number >= size:
        return 0
    (offset,) = struct.unpack_from("<H", table, vtable + 4 + 2 * number)
    return root + offset if offset else 0


def _root(table: bytes) -> int:
    """Of a flatbuffer that its size precedes."""
    return 4 + int(struct.unpack_from("<I", table, 4)[0])


def _vector(table: bytes, place: int) -> tuple[int, int]:
    """Where a vector or a string begins, and how many elements it has."""
    (offset,) = struct.unpack_from("<I", table, place)
    (length,) = struct.unpack_from("<I", table, place + offset)
    return place + offset + 4, length


def _header(table: bytes) -> tuple[int, int, str]:
    """The compression, where the packets end, and a description of the streams in XML."""
    root = _root(table)
    compression, end, info = (_field(table, root, number) for number in range(3))
    start, length = _vector(table, info) if info else (0, 0)
    return (
        struct.unpack_from("<i", table, compression)[0] if compression else 0,
        struct.unpack_from("<q", table, end)[0] if end else -1,
        table[start : start + length].decode("utf-8"),
    )


def _stream(info: str) -> tuple[int | None, Sensor | None]:
    """The number of the first stream of events, and its sensor."""
    # the streams are the nodes with a number for a name; what is said of one stands before the next
    parts = re.split(r'<node name="(\d+)"', info)[1:]
    for number, said in zip(parts[::2], parts[1::2], strict=True):
        if re.search(r'key="typeIdentifier"[^>]*>EVTS<', said):
            sizes = [re.search(rf'key="size{axis}"[^>]*>(\d+)<', said) for axis in "XY"]
            return int(number), Sensor(int(sizes[0][1]), int(sizes[1][1])) if sizes[0] and sizes[1] else None
    return None, None


def _expanded(packet: bytes, compression: int) -> bytes:
    name = _COMPRESSION[compression] if 0 <= compression < len(_COMPRESSION) else str(compression)
    if name == "none":
        return packet
    if name == "LZ4":
        return decompressed(packet)
    if name != "Zstandard":
        raise ValueError(f"compression {name}, which is unknown")
    try:
        zstandard = import_module("zstandard")
    except ImportError:
        raise MissingPackage("zstandard", "ranvier[events]") from None
    try:
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(packet))
    except zstandard.ZstdError as why:
        raise ValueError(f"{why}") from why


def _packet(table: bytes) -> np.ndarray:
    """The events of one packet."""
    if table[8:12] != b"EVTS":
        raise ValueError(f"a packet of {table[8:12]!r} among the events")
    place = _field(table, _root(table), 0)
    if not place:
        return np.zeros(0, dtype=_EVENT)
    start, length = _vector(table, place)
    return np.frombuffer(table, _EVENT, length, start)
