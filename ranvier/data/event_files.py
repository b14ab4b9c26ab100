"""Files of events, by what they hold: numpy arrays, ATIS, Prophesee DAT, EVT2 and EVT3, jAER's AEDAT2, DV's AEDAT4."""

import re
from pathlib import Path

import numpy as np

from ranvier.core.checks import Refusal, nearest
from ranvier.data.aedat4 import read_aedat4
from ranvier.data.events import Sensor, events
from ranvier.data.evt import read_evt, unrolled

Recorded = tuple[np.ndarray, Sensor | None]


def read_events(path: str | Path) -> Recorded:
    """The events of a file, as (t in microseconds, x, y, p) in the file's order, and the sensor where the file states it.

    .npy and .npz (a structured array, or one array for each field), .bin (N-MNIST, N-Caltech101), .dat, .raw (EVT 2.0
    and 3.0), .aedat (2.0 of a DVS128), .aedat4. y counts from the top. Counters that wrap around are continued.

    Raises: Refusal for another kind of file, and for a truncated or corrupted one, with the byte where it goes wrong.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "one.bin")
    ...     _ = file.write_bytes(bytes([12, 30, 128, 1, 2]))
    ...     read_events(file)
    (array([(258, 12, 30,  True)],
          dtype=[('t', '<i8'), ('x', '<i2'), ('y', '<i2'), ('p', '?')]), None)
    """
    path = Path(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        do = nearest(path.suffix.lower(), _READERS)
        raise Refusal(str(path), expected="a kind of event file", got=path.suffix or "no suffix", do=do)
    if not path.is_file():
        raise Refusal(str(path), expected="a file", got="none", do="Correct the path.")
    if path.stat().st_size == 0:
        raise Refusal(str(path), expected="events", got="an empty file", do="Copy it anew from where it comes from.")
    return read(path)


def read_numpy(path: Path) -> Recorded:
    """A structured array with the fields t, x, y, p, or an .npz of these four arrays; nothing is unpickled."""
    try:
        found = np.load(path, allow_pickle=False)
        arrays = {path.stem: found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except Exception as why:  # numpy, its tokenizer, zipfile and zlib each say in ways of their own that it is damaged
        got = f"{why}" or type(why).__name__
        raise Refusal(str(path), expected="numpy arrays", got=got, do="Save it with numpy.savez.") from why
    if len(arrays) == 1:
        (only,) = arrays.values()
        arrays = {name: only[name] for name in only.dtype.names or ()}
    if wrong := [name for name in "txyp" if name in arrays and arrays[name].dtype.kind not in "iufb"]:
        got = f"{wrong[0]} of type {arrays[wrong[0]].dtype}"
        raise Refusal(str(path), expected="fields of numbers", got=got, do="Convert them.")
    if not {"t", "x"} <= arrays.keys():
        do = "Name the columns: a structured array, or numpy.savez(path, t=t, x=x, y=y, p=p)."
        raise Refusal(str(path), expected="fields t, x, y, p", got=", ".join(arrays) or "no fields", do=do)
    return events(*(arrays.get(name) for name in "txyp")), None


def read_atis(path: Path) -> Recorded:
    """Five bytes an event: x, y, then one bit of polarity and 23 of time; y = 240 marks 2^13 microseconds more.

    Source: G. Orchard, A. Jayawant, G. Cohen and N. Thakor, Frontiers in Neuroscience 9, 2015 (N-MNIST, N-Caltech101).
    """
    raw = _records(path, path.read_bytes(), 0, np.dtype((np.uint8, 5))).astype(np.int64)
    t = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
    overflow = raw[:, 1] == 240
    t += np.cumsum(overflow) << 13
    return events(t, raw[:, 0], raw[:, 1], raw[:, 2] >> 7)[~overflow], None


def read_dat(path: Path) -> Recorded:
    """Eight bytes an event: 32 bits of time, then 14 of x, 14 of y and 4 of polarity."""
    data = path.read_bytes()
    header, start = _header(data, b"%")
    if data[start : start + 2] not in (b"\x00\x08", b"\x0c\x08"):
        got = data[start : start + 2].hex() or "its end"
        raise Refusal(
            f"{path} at byte {start}",
            expected="events of 8 bytes (type 00 or 0c)",
            got=got,
            do="Convert it with Prophesee's metavision_file_to_dat.",
        )
    words = _records(path, data, start + 2, np.dtype(("<u4", 2)))
    where = words[:, 1]
    sizes = [re.search(rf"{name}\s+(\d+)", header, re.IGNORECASE) for name in ("width", "height")]
    sensor = Sensor(int(sizes[0][1]), int(sizes[1][1])) if sizes[0] and sizes[1] else None
    return events(unrolled(words[:, 0], 32), where & 0x3FFF, where >> 14 & 0x3FFF, where >> 28 & 1), sensor


def read_aedat2(path: Path) -> Recorded:
    """Eight bytes an event, big-endian: an address and a time. Only the DVS128 is known, as jAER reads it.

    Its address has y in bits 8 to 14 from the bottom, x in bits 1 to 7 from the right, and 0 for ON in bit 0; where
    bit 15 is set it is a signal from outside and no event.
    """
    data = path.read_bytes()
    header, start = _header(data, b"#")
    version = re.match(r"#!AER-DAT(\S+)", header)
    if version is None or not version[1].startswith("2"):
        got = f"AEDAT {version[1]}" if version else "no version"
        do = "Convert it to AEDAT 4 with iniVation's DV, or save it as AEDAT 2 with jAER."
        raise Refusal(str(path), expected="AEDAT 2", got=got, do=do)
    chip = re.search(r"AEChip: (\S+)", header)
    if chip and "DVS128" not in chip[1]:
        do = "Convert it to AEDAT 4 with iniVation's DV."
        raise Refusal(str(path), expected="a DVS128", got=chip[1], do=do)
    words = _records(path, data, start, np.dtype((">u4", 2)))
    address = words[:, 0].astype(np.int64)
    if (address >> 16).any():
        i = int(np.argmax(address >> 16 != 0))
        where, got = f"{path} at byte {start + 8 * i}", f"{address[i]:#x}"
        raise Refusal(where, expected="a DVS128's address of 16 bits", got=got, do="Convert it with iniVation's DV.")
    inside = address >> 15 == 0
    address, t = address[inside], unrolled(words[:, 1], 32)[inside]
    return events(t, 127 - (address >> 1 & 127), 127 - (address >> 8 & 127), ~address & 1), Sensor(128, 128)


def _records(path: Path, data: bytes, start: int, kind: np.dtype) -> np.ndarray:
    """All that follows the header, as records of one size."""
    rest = (len(data) - start) % kind.itemsize
    if rest:
        raise Refusal(
            f"{path} at byte {len(data) - rest}",
            expected=f"events of {kind.itemsize} bytes",
            got=f"{rest} bytes before the end of the file",
            do="It is cut off or damaged: copy it anew from where it comes from.",
        )
    base, shape = kind.subdtype or (kind, ())
    return np.frombuffer(data, base, offset=start).reshape(-1, *shape)


def _header(data: bytes, mark: bytes) -> tuple[str, int]:
    """The lines at the beginning that start with `mark`, and where they end."""
    end = 0
    while data[end : end + 1] == mark:
        line = data.find(b"\n", end)
        if line < 0:
            break
        end = line + 1
    return data[:end].decode("latin-1"), end


_READERS = {
    ".npy": read_numpy,
    ".npz": read_numpy,
    ".bin": read_atis,
    ".dat": read_dat,
    ".raw": read_evt,
    ".aedat": read_aedat2,
    ".aedat4": read_aedat4,
}
