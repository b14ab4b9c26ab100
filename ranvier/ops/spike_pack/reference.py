"""Packing in plain torch."""

import torch
from torch import Tensor
from torch.nn import functional


def pack(x: Tensor, width: int) -> tuple[Tensor, Tensor, bool]:
    """A flat x as words [R, ceil(width / 64)], `width` numbers a row: the words, how many are not zero in each row, and
    whether all those are one."""
    rows = functional.pad(x, (0, -len(x) % width)).reshape(-1, width)
    on = rows != 0
    whole = functional.pad(on, (0, -width % 64)).reshape(len(rows), -(-width // 64), 64)
    bit = torch.ones((), dtype=torch.int64, device=x.device) << torch.arange(64, device=x.device)
    return (whole * bit).sum(-1), on.sum(1, dtype=torch.int32), bool((~on | (rows == 1)).all())


def unpack(words: Tensor, width: int, number: int, dtype: torch.dtype) -> Tensor:
    """The `number` zeros and ones of words, as a flat tensor."""
    bits = (words[..., None] >> torch.arange(64, device=words.device)) & 1
    return bits.reshape(len(words), -1)[:, :width].reshape(-1)[:number].to(dtype)


def indices(words: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's indices begin [R + 1], and the indices of all rows, in order."""
    width = 64 * words.shape[1]
    found = unpack(words, width, width * len(words), torch.bool).reshape(len(words), width).nonzero()[:, 1]
    return functional.pad(counts.cumsum(0), (1, 0)), found.to(torch.int32)


def grouped(row: Tensor, column: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Events in any order, by row: where each row's begin [R + 1], and their columns; in one row they keep their order."""
    counts = torch.bincount(row, minlength=rows)
    return functional.pad(counts.cumsum(0), (1, 0)), column[torch.argsort(row, stable=True)]
