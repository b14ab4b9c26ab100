"""LZ4 frames, decompressed without a package; with the package lz4 where it is installed, which is faster."""

import struct
from importlib import import_module

try:
    _fast = import_module("lz4.frame").decompress
except ImportError:
    _fast = None

_MAGIC = 0x184D2204
_STORED = 1 << 31


def decompressed(frame: bytes) -> bytes:
    """The contents of one LZ4 frame.

    Raises: ValueError saying what is wrong with it.

    Source: Y. Collet, LZ4 frame format 1.6 and LZ4 block format.

    >>> decompressed(bytes.fromhex("04224d186040 82 0b000000 1f 61 0100 00 50 6262626262 00000000"))
    b'aaaaaaaaaaaaaaaaaaaabbbbb'
    """
    if _fast is not None:
        try:
            return bytes(_fast(frame))
        except RuntimeError as why:
            raise ValueError(f"{why}") from why
    if len(frame) < 7 or struct.unpack_from("<I", frame)[0] != _MAGIC:
        raise ValueError("no LZ4 frame")
    flags = frame[4]
    place = 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)  # a size and the name of a dictionary may be stated
    out = bytearray()
    while True:
        if place + 4 > len(frame):
            raise ValueError("an LZ4 frame without an end")
        (size,) = struct.unpack_from("<I", frame, place)
        place += 4
        if size == 0:
            return bytes(out)
        block = frame[place : place + (size & ~_STORED)]
        if len(block) < size & ~_STORED:
            raise ValueError("an LZ4 block without an end")
        if size & _STORED:
            out += block
        else:
            _block(block, out)
        place += len(block) + 4 * (flags >> 4 & 1)  # a block's checksum may follow


def _block(block: bytes, out: bytearray) -> None:
    """Literals and copies of what came before, in turn, appended to `out`."""
    place, end = 0, len(block)
    try:
        while True:
            token = block[place]
            place += 1
            literals = token >> 4
            if literals == 15:
                place, literals = _long(block, place, literals)
            if literals:
                if place + literals > end:
                    raise ValueError("LZ4 literals beyond their block")
                out += block[place : place + literals]
                place += literals
            if place == end:
                return
            offset = block[place] | block[place + 1] << 8
            place += 2
            length = token & 15
            if length == 15:
                place, length = _long(block, place, length)
            length += 4
            start = len(out) - offset
            if offset == 0 or start < 0:
                raise ValueError("an LZ4 copy from before the beginning")
            if offset >= length:
                out += out[start : start + length]
            else:  # it overlaps what it makes: the piece repeats
                out += (out[start:] * (length // offset + 1))[:length]
    except IndexError:
        raise ValueError("an LZ4 block without an end") from None


def _long(block: bytes, place: int, length: int) -> tuple[int, int]:
    """A length of 15 or more, with its further bytes."""
    while True:
        more = block[place]
        place += 1
        length += more
        if more != 255:
            return place, length
