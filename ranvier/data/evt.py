"""Prophesee's raw streams, EVT 2.0 and EVT 3.0, decoded as whole arrays."""

import re
from pathlib import Path

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.events import Sensor, events

_SIZES = {"Gen3.0": (640, 480), "Gen3.1": (640, 480), "gen3": (640, 480), "gen41": (1280, 720), "IMX636": (1280, 720)}
_EVT2 = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
_EVT3 = (0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF)


def read_evt(path: Path) -> tuple[np.ndarray, Sensor | None]:
    """The events of a .raw file; its header says which encoding, and often which sensor.

    What comes before the first word of time (and in EVT 3.0 of y) has no time, and is left out. Triggers are too.

    Raises: Refusal for another encoding, a size that is no whole number of words, an unknown word, all with the byte.

    Source: Prophesee, EVT 2.0 and EVT 3.0 formats, docs.prophesee.ai.
    """
    data = path.read_bytes()
    header, start = _header(data)
    version = re.search(r"^% evt (\S+)", header, re.MULTILINE) or re.search(r"format EVT(\d[.\d]*)", header)
    if version is None or version[1] not in ("2", "2.0", "3", "3.0"):
        raise Refusal(
            str(path),
            expected="a header that says EVT 2.0 or 3.0",
            got=f"EVT {version[1]}" if version else "none",
            do="Convert it with Prophesee's metavision_file_to_dat, and read the .dat.",
        )
    size, kinds = (4, _EVT2) if version[1][0] == "2" else (2, _EVT3)
    rest = (len(data) - start) % size
    if rest:
        do = "It is cut off or damaged: copy it anew from where it comes from."
        got = f"{rest} bytes before the end of the file"
        raise Refusal(f"{path} at byte {len(data) - rest}", expected=f"words of {size} bytes", got=got, do=do)
    words = np.frombuffer(data, f"<u{size}", offset=start)
    kind = (words >> (8 * size - 4)).astype(np.uint8)
    known = np.zeros(16, dtype=bool)
    known[list(kinds)] = True
    if not known[kind].all():
        i = int(np.argmin(known[kind]))
        where, do = f"{path} at byte {start + size * i}", "It is damaged: copy it anew from where it comes from."
        raise Refusal(where, expected=f"a word of EVT {version[1]}", got=f"{words[i]:#0{2 + 2 * size}x}", do=do)
    found, sensor = (_evt2 if size == 4 else _evt3)(words, kind), _sensor(header)
    if sensor and len(found) and (found["x"].max() >= sensor.width or found["y"].max() >= (sensor.height or 0)):
        got, do = f"x to {found['x'].max()}, y to {found['y'].max()}", "It is damaged: copy it anew."
        raise Refusal(str(path), expected=f"events inside {sensor}", got=got, do=do)
    return found, sensor


def unrolled(counter: np.ndarray, bits: int) -> np.ndarray:
    """A counter of `bits` bits that wraps around, continued.

    >>> unrolled(np.array([250, 255, 3], dtype=np.uint8), 8).tolist()
    [250, 255, 259]
    """
    counter = counter.astype(np.int64)
    if len(counter) == 0:
        return counter
    continued: np.ndarray = counter + (np.cumsum(np.diff(counter, prepend=counter[0]) < -(1 << bits - 1)) << bits)
    return continued


def _latest(where: np.ndarray) -> np.ndarray:
    """For each word, the number of the last one before it or itself where `where` holds; -1 before the first."""
    return np.maximum.accumulate(np.where(where, np.arange(len(where)), -1))


def _evt2(words: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Bits from the top: 4 of kind (0 off, 1 on), 6 of time, 11 of x, 11 of y; kind 8 has the other 28 bits of time."""
    high = kind == 8
    which = np.cumsum(high)
    told = unrolled(words[high] & 0xFFFFFFF, 28)
    chosen = np.flatnonzero((kind <= 1) & (which > 0))
    w = words[chosen].astype(np.int64)
    t = (told[which[chosen] - 1] << 6) + (w >> 22 & 0x3F)
    return events(t, w >> 11 & 0x7FF, w & 0x7FF, kind[chosen])


def _evt3(words: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Words of 16 bits, 4 of kind, that change a state of time, y and base x, or tell of one, 12 or 8 pixels in a row."""
    high = kind == 8
    told = unrolled(words[high] & 0xFFF, 12)
    which = np.cumsum(high)
    # the low bits of time hold until the high ones change
    low = _latest((kind == 6) | high)
    y = _latest(kind == 0)
    base = _latest(kind == 3)
    ahead = np.where(kind == 4, 12, np.where(kind == 5, 8, 0))  # a vector moves the base for the next
    passed = np.cumsum(ahead) - ahead
    chosen = np.flatnonzero((which > 0) & (y >= 0) & ((kind == 2) | ((kind == 4) | (kind == 5)) & (base >= 0)))
    w, k = words[chosen].astype(np.int64), kind[chosen]
    start = base[chosen]
    single = k == 2
    source = words[np.where(single, chosen, start)].astype(np.int64)  # holds x and polarity
    x = (source & 0x7FF) + np.where(single, 0, passed[chosen] - passed[start])
    mask = np.where(single, 1, w & np.where(k == 4, 0xFFF, 0xFF))
    event, bit = np.nonzero(mask[:, None] >> np.arange(12) & 1)
    at = chosen[event]
    t = (told[which[at] - 1] << 12) + np.where(kind[low[at]] == 6, words[low[at]] & 0xFFF, 0)
    return events(t, x[event] + bit, words[y[at]] & 0x7FF, source[event] >> 11 & 1)


def _header(data: bytes) -> tuple[str, int]:
    """The lines that start with "% ", and where they end; "% end" is the last where it is there."""
    end = 0
    while data[end : end + 2] == b"% " and (line := data.find(b"\n", end)) >= 0:
        last, end = data[end:line].strip(), line + 1
        if last == b"% end":
            break
    return data[:end].decode("latin-1"), end


def _sensor(header: str) -> Sensor | None:
    """From the sizes that the header states, or the name of the camera's generation."""
    width, height = re.search(r"width=(\d+)", header), re.search(r"height=(\d+)", header)
    if width and height:
        return Sensor(int(width[1]), int(height[1]))
    geometry = re.search(r"^% geometry (\d+)x(\d+)", header, re.MULTILINE)
    if geometry:
        return Sensor(int(geometry[1]), int(geometry[2]))
    size = next((size for name, size in _SIZES.items() if name in header), None)
    return Sensor(*size) if size else None
