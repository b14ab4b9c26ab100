"""Text as numbers, one for each character."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranvier.core.checks import Refusal


@dataclass(frozen=True)
class Text:
    """A text and the alphabet by which its characters are numbered.

    Raises: Refusal for symbols that repeat, and for a character that is none of them.

    >>> a = Text("hello", symbols="ehlo")
    >>> a.encoded().tolist(), a.decoded([1, 0])
    ([1, 0, 2, 2, 3], 'he')
    """

    text: str
    symbols: str
    """each character once; its place is its number"""

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols):
            twice = next(c for i, c in enumerate(self.symbols) if c in self.symbols[:i])
            raise Refusal("Text symbols", expected="each once", got=f"{twice!r} twice", do="Leave out the second.")
        if unknown := set(self.text) - set(self.symbols):
            raise Refusal(
                "Text",
                expected=f"characters that are among the {len(self.symbols)} symbols",
                got=repr(min(unknown)),
                do="Add it to the symbols, or replace it in the text.",
            )

    def __len__(self) -> int:
        return len(self.text)

    def encoded(self) -> np.ndarray:
        """[characters] int64 numbers of the symbols."""
        known = _points(self.symbols)
        order = np.argsort(known)
        return order[np.searchsorted(known, _points(self.text), sorter=order)]

    def decoded(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text that numbers stand for; those of any model with the same symbols, not only of this text."""
        numbers = np.asarray(ids, dtype=np.int64).reshape(-1)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self.symbols)):
            raise Refusal(
                "Text.decoded",
                expected=f"numbers from 0 to {len(self.symbols) - 1}, one for each symbol",
                got=f"{numbers.min()} to {numbers.max()}",
                do="Decode with the symbols that encoded them.",
            )
        return "".join(self.symbols[i] for i in numbers)


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
