"""Event files made byte by byte."""

import struct
from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def aedat4_file() -> Callable[..., bytes]:
    """What makes an AEDAT 4 file of events: aedat4_file(events, compression=0, sizes="")."""
    return _aedat4_file


def _table(identifier: bytes, fields: list[bytes], tail: bytes) -> bytes:
    """A flatbuffer that its size precedes: one table with these fields of 8 bytes, and what they point to behind it."""
    count = len(fields)
    vtable = struct.pack(f"<HH{count}H", 4 + 2 * count, 8 + 8 * count, *(8 + 8 * i for i in range(count)))
    vtable += bytes(-(8 + len(vtable)) % 8)
    root = struct.pack("<ii", len(vtable), 0) + b"".join(fields)
    content = struct.pack("<I", 8 + len(vtable)) + identifier + vtable + root + tail
    return struct.pack("<I", len(content)) + content


def _aedat4_file(e: np.ndarray, compression: int = 0, sizes: str = "") -> bytes:
    """A file with one packet of other things, and the events in two packets."""
    info = f'<node name="outInfo"><node name="0" path="x"><attr key="typeIdentifier" type="string">FRME</attr></node><node name="3" path="y"><attr key="typeIdentifier" type="string">EVTS</attr><node name="info">{sizes}</node></node></node>'
    text = struct.pack("<I", len(info)) + info.encode()
    # the third field points over itself to the text behind the table
    header = _table(
        b"IOHE", [struct.pack("<ii", compression, 0), struct.pack("<q", -1), struct.pack("<II", 8, 0)], text
    )

    def packet(part: np.ndarray) -> bytes:
        records = b"".join(struct.pack("<qhh?3x", *event) for event in part[["t", "x", "y", "p"]].tolist())
        content = _table(b"EVTS", [struct.pack("<II", 8, 0)], struct.pack("<I", len(part)) + records)
        return _stored(content) if compression == 1 else content

    half = len(e) // 2
    other = struct.pack("<iI", 0, 5) + b"image"
    packets = [struct.pack("<iI", 3, len(p)) + p for p in (packet(e[:half]), packet(e[half:]))]
    return b"#!AER-DAT4.0\r\n" + header + packets[0] + other + packets[1]


def _stored(content: bytes) -> bytes:
    """An LZ4 frame whose one block is as it was."""
    flags = bytes.fromhex("04224d18604082")
    return flags + struct.pack("<I", len(content) | 1 << 31) + content + bytes(4)
