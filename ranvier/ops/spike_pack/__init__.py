"""Spikes packed: one bit for each number, or the places of those that are not zero."""

from typing import NamedTuple

import torch
from torch import Tensor

from ranvier.compile.plan import _interpreting
from ranvier.ops.spike_pack import reference

FLAT = 4096
"""Numbers of a row where rows don't matter."""
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Packed(NamedTuple):
    """A tensor of zeros and ones as bits, `width` numbers a row."""

    words: Tensor
    """[R, ceil(width / 64)] int64"""
    counts: Tensor | None
    """[R] int32: how many numbers of a row are not zero, where it was counted (not on a GPU)"""
    width: int
    number: int


def on_cpu(x: Tensor) -> bool:
    """Whether a CPU's kernels work on x, which alone count what they pack and sum over indices.

    >>> on_cpu(torch.zeros(1, device="meta"))
    False
    """
    return x.device.type == "cpu" and not _interpreting()


def pack(x: Tensor, width: int = FLAT) -> tuple[Packed, bool]:
    """Which numbers of x, taken in row-major order, are not zero; and whether all those are one.

    On a GPU the second waits for the GPU, and `width` is a multiple of 64.

    >>> packed, binary = pack(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), width=2)
    >>> packed.words.tolist(), packed.counts.tolist(), binary
    ([[2], [3]], [1, 2], True)
    """
    flat = x.detach().reshape(-1)
    if on_cpu(x):
        from ranvier.ops.spike_pack import cpu

        words, counts, binary = cpu.pack(flat, width)
        return Packed(words, counts, width, len(flat)), binary
    if x.device.type in ("cpu", "cuda"):
        from ranvier.ops.spike_pack import gpu

        words, binary = gpu.pack(flat)
        return Packed(words[:, None], None, 64, len(flat)), binary
    words, counts, binary = reference.pack(flat, width)
    return Packed(words, counts, width, len(flat)), binary


def unpack(packed: Packed, dtype: torch.dtype) -> Tensor:
    """The zeros and ones, as a flat tensor.

    >>> unpack(pack(torch.tensor([0.0, 1.0, 1.0]))[0], torch.float32)
    tensor([0., 1., 1.])
    """
    words, _, width, number = packed
    if on_cpu(words):
        from ranvier.ops.spike_pack import cpu

        return cpu.unpack(words, width, number, dtype)
    if words.device.type in ("cpu", "cuda"):
        from ranvier.ops.spike_pack import gpu

        return gpu.unpack(words.view(-1), number, dtype)
    return reference.unpack(words, width, number, dtype)


def indices(packed: Packed) -> tuple[Tensor, Tensor]:
    """Where each row's active indices begin [R + 1] int64, and those of all rows, in order, int32.

    >>> pointer, index = indices(pack(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), width=2)[0])
    >>> pointer.tolist(), index.tolist()
    ([0, 1, 3], [1, 0, 1])
    """
    assert packed.counts is not None
    if packed.words.device.type == "cpu":
        from ranvier.ops.spike_pack import cpu

        return cpu.indices(packed.words, packed.counts)
    return reference.indices(packed.words, packed.counts)


def grouped(row: Tensor, column: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Events in any order, by row: where each row's begin [rows + 1] int64, and their columns int32.

    >>> pointer, index = grouped(torch.tensor([1, 0, 1]), torch.tensor([5, 6, 4], dtype=torch.int32), 2)
    >>> pointer.tolist(), index.tolist()
    ([0, 1, 3], [6, 5, 4])
    """
    if row.device.type == "cpu":
        from ranvier.ops.spike_pack import cpu

        return cpu.grouped(row.contiguous(), column.contiguous(), rows)
    return reference.grouped(row, column, rows)
