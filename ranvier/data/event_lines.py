"""Events and frames as lines of text, JSON or CSV, as they come out of a pipe."""

import json
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Literal

import numpy as np

from ranvier.core.checks import Refusal

LONGEST = 2**24
"""Characters of a line; a longer one is damage."""
_DO = 'Write events as {"t": 1000, "x": 3, "y": 5, "p": 1}, frames as [0, 1, ...], or CSV with a line of names t,x,y,p first.'


class Lines:
    """Text in, pieces of any length; arrays out: structured ones of events, or frames [n, *shape].

    The first line decides: a JSON object with t and x is an event, a JSON array (or an object with "frame") a frame; in
    CSV a line of names with t and x is followed by events, a line of as many numbers as a frame has is one, and one of as
    many as an event has fields (`names`, in their order) is an event. Lines that can't be read are refused, or with
    on_bad="drop" left out and counted in `unreadable`. Numbers are not judged here: NaN passes.

    Raises: Refusal with the number of the line.

    >>> lines = Lines((2,), ("t", "x"))
    >>> lines.feed(b'{"t": 1, "x": 0}\\n{"t": 2,'), lines.feed(b' "x": 1}\\n')["t"].tolist()
    (array([(1., 0.)], dtype=[('t', '<f8'), ('x', '<f8')]), [2.0])
    """

    def __init__(
        self, shape: Sequence[int], names: Sequence[str], on_bad: Literal["raise", "drop"] = "raise", source: str = "-"
    ) -> None:
        self.shape, self.names, self.on_bad, self.source = tuple(shape), tuple(names), on_bad, source
        self.number = self.unreadable = 0
        self.left = b""
        self.read: Callable[[str], Sequence[float]] | None = None
        self.frames = False

    def feed(self, text: bytes) -> np.ndarray:
        """What the complete lines hold; what comes after the last line's end waits."""
        *lines, self.left = (self.left + text).split(b"\n")
        rows = [row for line in lines if (row := self._row(line)) is not None]
        if len(self.left) > LONGEST:
            self._bad("a line without an end")
            self.left = b""
        return self._array(rows)

    def end(self) -> np.ndarray:
        """What the last line holds, where its end is missing.

        Raises: Refusal where it is cut off, whatever `on_bad` is.
        """
        line, self.left = self.left, b""
        kept, self.on_bad = self.on_bad, "raise"
        try:
            row = self._row(line)
        except Refusal:
            do = "The stream was cut off there; what came before has been read."
            where = f"{self.source} line {self.number}"
            raise Refusal(
                where, expected="a whole line", got=repr(line[-60:].decode("utf-8", "replace")), do=do
            ) from None
        finally:
            self.on_bad = kept
        return self._array([] if row is None else [row])

    def _array(self, rows: list[Sequence[float]]) -> np.ndarray:
        if self.frames:
            with np.errstate(over="ignore"):  # what is too large becomes Inf, which whoever takes frames refuses
                return np.array(rows, np.float64).astype(np.float32).reshape(-1, *self.shape)
        array = np.empty(len(rows), [(name, np.float64) for name in self.names])
        table = np.array(rows, np.float64).reshape(-1, len(self.names))
        for name, column in zip(self.names, table.T, strict=True):
            array[name] = column
        return array

    def _row(self, line: bytes) -> Sequence[float] | None:
        self.number += 1
        text = line.decode("utf-8", "replace").strip()
        if not text:
            return None
        try:
            if len(text) > LONGEST:
                raise ValueError("a line too long")
            if self.read is None and not self._decide(text):
                return None
            assert self.read
            return self.read(text)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as why:
            missing = f"no {why.args[0]}" if isinstance(why, KeyError) else str(why)
            self._bad(f"{text[:60]!r} ({missing[:80]})")
            return None

    def _bad(self, got: str) -> None:
        if self.on_bad == "raise":
            expected = "a frame" if self.frames else "an event" if self.read else "an event or a frame"
            raise Refusal(f"{self.source} line {self.number}", expected=expected, got=got, do=_DO)
        self.unreadable += 1

    def _decide(self, text: str) -> bool:
        """How lines are read, by the first; False for a line of names, which holds nothing else."""
        if text[0] in "{[":
            found = json.loads(text)
            frames = not isinstance(found, dict) or "frame" in found
            read = self._json_frame if frames else self._json_event
            read(text)
            self.frames, self.read = frames, read
            return True
        cells = [c.strip().strip('"').lower() for c in text.split(",")]
        if {"t", "x"} <= set(cells):
            columns = [cells.index(name) for name in self.names]
            self.read = lambda line: _cells(line, columns)
            return False
        [float(c) for c in cells]
        if len(cells) == prod(self.shape):
            self.frames, self.read = True, lambda line: self._sized([float(c) for c in line.split(",")])
        elif len(cells) == len(self.names):
            self.read = lambda line: _cells(line, range(len(self.names)))
        else:
            raise ValueError(f"{len(cells)} numbers")
        return True

    def _json_event(self, text: str) -> Sequence[float]:
        found = json.loads(text)
        return [float(found[name]) for name in self.names]

    def _json_frame(self, text: str) -> Sequence[float]:
        found: Any = json.loads(text)
        values = np.asarray(found["frame"] if isinstance(found, dict) else found, np.float64)
        return self._sized(values.ravel().tolist())

    def _sized(self, row: list[float]) -> list[float]:
        if len(row) != prod(self.shape):
            raise ValueError(f"{len(row)} numbers, not {prod(self.shape)}")
        return row


def _cells(line: str, columns: Sequence[int]) -> list[float]:
    cells = line.split(",")
    if max(columns) >= len(cells):
        raise ValueError(f"{len(cells)} cells")
    return [float(cells[c]) for c in columns]
