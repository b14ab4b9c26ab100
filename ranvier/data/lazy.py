"""Sequences whose items are made when they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np


@dataclass(frozen=True)
class Mapped(Sequence[np.ndarray]):
    """The items of another sequence through a function: kept small as integers, given out as floats, a new one each time.

    >>> x = Mapped(np.array([[0, 51], [102, 255]], dtype=np.uint8), unit)
    >>> len(x), x[1], [len(part) for part in (x[:1], x[-2:])]
    (2, array([0.4, 1. ], dtype=float32), [1, 2])
    """

    items: Sequence[Any] | np.ndarray
    function: Callable[[Any], np.ndarray]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "Mapped": ...
    def __getitem__(self, index: int | slice) -> "np.ndarray | Mapped":
        if isinstance(index, slice):
            return Mapped(self.items[index], self.function)
        return self.function(self.items[index])

    def take(self, index: np.ndarray) -> "Mapped":
        """The items at `index`, still made when they are asked for."""
        items = self.items
        return Mapped(items[index] if isinstance(items, np.ndarray) else [items[i] for i in index], self.function)


def unit(x: np.ndarray) -> np.ndarray:
    """Bytes as float32 from 0 to 1.

    >>> unit(np.array([0, 255], dtype=np.uint8))
    array([0., 1.], dtype=float32)
    """
    return x.astype(np.float32) / np.float32(255)
