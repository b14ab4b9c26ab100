"""Files of signals and sounds: csv, numpy arrays and wav; nothing is guessed, what can't be read is refused by line."""

import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranvier.core.checks import NonFinite, Refusal

_TIME = re.compile(r"(?:t|time|timestamp)[ _(\[]*(s|sec|seconds|ms|us)?[)\]]*", re.IGNORECASE)
_UNIT = {None: 1.0, "s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6}
_COPY = "It is cut off or damaged: copy it anew from where it comes from."


@dataclass(frozen=True)
class Signal:
    """A recording as it lies in its file: x [T, C], what its channels are called and the steps per second where stated."""

    x: np.ndarray
    channels: tuple[str, ...] = ()
    rate: float | None = None


def read_csv(path: Path) -> Signal:
    """Numbers in columns that comma, semicolon, tab or blank separate, one row a step, with or without a line of names.

    A column named time or t (in seconds; or as time_ms, time_us) gives the rate and is dropped.

    Raises: Refusal for text, missing cells, no rows, and times that are not evenly spaced to 1 %; NonFinite.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.csv")
    ...     _ = file.write_text("time,ax,ay\\n0.00,1,2\\n0.02,3,4\\n0.04,5,6\\n")
    ...     read_csv(file)
    Signal(x=array([[1., 2.], [3., 4.], [5., 6.]], dtype=float32), channels=('ax', 'ay'), rate=50.0)
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as why:
        do = "Save it as CSV in UTF-8."
        raise Refusal(f"{path} at byte {why.start}", expected="text", got="other bytes", do=do) from None
    numbered = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise _empty(path)
    mark = next((m for m in (";", "\t", ",") if m in numbered[0][1]), None)
    first = _cells(numbered[0][1], mark)
    named = not any(_number(cell) is not None for cell in first)
    rows = numbered[1:] if named else numbered
    if not rows:
        raise _empty(path)
    try:
        table = np.loadtxt([line for _, line in rows], delimiter=mark, ndmin=2, comments=None)
        if table.shape[1] != len(first):
            raise ValueError
    except ValueError:
        raise _bad_line(path, rows, mark, len(first)) from None
    names = tuple(first) if named else tuple(f"c{i}" for i in range(len(first)))
    _finite(path, table, rows)
    timed = [i for i, name in enumerate(names) if named and _TIME.fullmatch(name)]
    rate = _rate(path, table[:, timed[0]], names[timed[0]]) if timed else None
    kept = [i for i in range(len(names)) if i not in timed[:1]]
    if not kept:
        raise Refusal(str(path), expected="a column besides the time", got="none", do="Add what was measured.")
    return Signal(table[:, kept].astype(np.float32), tuple(names[i] for i in kept), rate)


def read_array(path: Path) -> Signal:
    """A signal [T, C] or [T] in .npy, or in .npz as its one array (and `rate`, samples per second, beside it).

    Raises: Refusal for other shapes, no steps, anything but numbers, and damaged files; NonFinite.
    """
    arrays = numpy_arrays(path)
    rate = arrays.pop("rate", None)
    if len(arrays) != 1:
        do = "Save one recording a file: numpy.savez(path, x=x, rate=50)."
        raise Refusal(str(path), expected="one array", got=", ".join(arrays) or "none", do=do)
    (x,) = arrays.values()
    if x.dtype.kind not in "fiub" or x.ndim not in (1, 2):
        do = "Save a recording as [steps, channels]."
        raise Refusal(str(path), expected="numbers [T, C] or [T]", got=f"{x.dtype} of shape {x.shape}", do=do)
    if rate is not None and (rate.size != 1 or rate.dtype.kind not in "fiu" or not rate.item() > 0):
        do = "Save samples per second."
        raise Refusal(f"{path}: rate", expected="a number above 0", got=str(rate), do=do)
    x = x[:, None] if x.ndim == 1 else x
    if x.size == 0:
        raise _empty(path)
    _finite(path, x)
    names = tuple(f"c{i}" for i in range(x.shape[1]))
    return Signal(x.astype(np.float32), names, None if rate is None else float(rate.item()))


def read_wav(path: Path) -> Signal:
    """Sound pressure from -1 to 1, [N, 1]: channels averaged, integers scaled by their range.

    Raises: Refusal for no samples, a file that is cut off, and other kinds of sound; NonFinite.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rate, x = wavfile.read(path)
    except Exception as why:  # scipy raises whatever a damaged header leads to
        do = f"{_COPY} Other kinds: ffmpeg -i FILE -c:a pcm_s16le FILE.wav"
        raise Refusal(str(path), expected="a wav file", got=str(why) or type(why).__name__, do=do) from None
    if short := [str(w.message) for w in said if "EOF" in str(w.message)]:
        raise Refusal(str(path), expected="a whole wav file", got=short[0], do=_COPY)
    if x.size == 0 or rate <= 0:
        raise _empty(path)
    x = x.reshape(len(x), -1)
    _finite(path, x)
    if x.dtype.kind == "u":
        x = (x.astype(np.float64) - 128) / 128
    elif x.dtype.kind == "i":
        x = x / -float(np.iinfo(x.dtype).min)
    return Signal(x.mean(1, keepdims=True).astype(np.float32), ("pressure",), float(rate))


def numpy_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or that of an .npy; nothing is unpickled.

    Raises: Refusal for anything else.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {path.stem: found}
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as why:
        raise Refusal(str(path), expected="numpy arrays of numbers", got=str(why) or "damage", do=_COPY) from None


def _cells(line: str, mark: str | None) -> list[str]:
    return [cell.strip().strip('"').strip() for cell in line.split(mark)]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _bad_line(path: Path, rows: list[tuple[int, str]], mark: str | None, width: int) -> Refusal:
    """What is wrong with the first line that is no row of numbers."""
    for i, line in rows:
        cells = _cells(line, mark)
        if len(cells) != width:
            do = f"Repair it. {_COPY}" if i == rows[-1][0] else "Repair it."
            return Refusal(f"{path}, line {i}", expected=f"{width} columns", got=f"{len(cells)}", do=do)
        for cell in cells:
            if _number(cell) is None:
                got = repr(cell) if cell else "an empty cell"
                return Refusal(
                    f"{path}, line {i}", expected="a number", got=got, do="Repair it, or leave out that column."
                )
    return Refusal(str(path), expected="a table of plain numbers", got="quoted ones", do="Save it without quotes.")


def _rate(path: Path, t: np.ndarray, name: str) -> float:
    match = _TIME.fullmatch(name)
    assert match
    gaps = np.diff(t)
    if len(gaps) == 0:
        raise Refusal(str(path), expected="two rows or more", got="one", do="Drop it.")
    gap = float(np.median(gaps))
    grid = t[0] + np.arange(len(t)) * (t[-1] - t[0]) / len(gaps)
    # times rounded to milliseconds lie beside an even grid by little, although their gaps differ by more
    even = (np.abs(gaps - gap) <= 0.01 * gap).all() or (np.abs(t - grid) <= 0.05 * gap).all()
    if gap <= 0 or not even:
        i = int(np.argmax(np.abs(gaps - gap))) + 1
        got = f"{gaps[i - 1]:g} before row {i + 1}, {gap:g} as a rule"
        do = "Resample it, for instance with numpy.interp, or leave out the column."
        raise Refusal(f"{path}: {name}", expected="times evenly spaced to 1 %", got=got, do=do)
    unit = match[1].lower() if match[1] else None
    return float(f"{len(gaps) / ((t[-1] - t[0]) * _UNIT[unit]):.6g}")


def _finite(path: Path, x: np.ndarray, rows: list[tuple[int, str]] | None = None) -> None:
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        row = int(np.argmax(bad))
        where = f"line {rows[row][0]}" if rows else f"row {row}"
        raise NonFinite(f"{path}, {where}: expected finite numbers, got NaN or Inf. Repair or drop it.")


def _empty(path: Path) -> Refusal:
    return Refusal(str(path), expected="a recording", got="no steps", do="Delete it, or copy it anew.")
