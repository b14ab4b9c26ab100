"""Packing on a GPU: each instance of a kernel makes or reads BLOCK words."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 64


def pack(x: Tensor) -> tuple[Tensor, bool]:
    """The words of a flat x, 64 numbers each, and whether all numbers are 0 or 1."""
    words = torch.empty(-(-len(x) // 64), dtype=torch.int64, device=x.device)
    grid = -(-len(words) // _BLOCK)
    odd = torch.empty(grid, dtype=torch.int32, device=x.device)
    if grid:
        _pack[(grid,)](x, words, odd, len(x), BLOCK=_BLOCK)
    return words, not odd.any().item()


def unpack(words: Tensor, number: int, dtype: torch.dtype) -> Tensor:
    """The `number` zeros and ones of words, as a flat tensor."""
    x = torch.empty(number, dtype=dtype, device=words.device)
    if number:
        _unpack[(-(-len(words) // _BLOCK),)](words, x, number, BLOCK=_BLOCK)
    return x


@triton.jit
def _pack(x, words, odd, number, BLOCK: tl.constexpr):  # noqa: N803
    word = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bit = tl.arange(0, 64).to(tl.int64)
    place = word[:, None] * 64 + bit[None, :]
    value = tl.load(x + place, mask=place < number, other=0.0)
    on = value != 0.0
    found = tl.sum(tl.where(on, tl.full([BLOCK, 64], 1, tl.int64) << bit[None, :], 0), axis=1)
    tl.store(words + word, found, mask=word * 64 < number)
    strange = on & (value != 1.0)
    tl.store(odd + tl.program_id(0), tl.max(tl.max(strange.to(tl.int32), axis=1), axis=0))


@triton.jit
def _unpack(words, x, number, BLOCK: tl.constexpr):  # noqa: N803
    word = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    bit = tl.arange(0, 64).to(tl.int64)
    place = word[:, None] * 64 + bit[None, :]
    there = tl.load(words + word, mask=word * 64 < number, other=0)
    on = ((there[:, None] >> bit[None, :]) & 1) != 0
    tl.store(x + place, tl.where(on, 1.0, 0.0).to(x.dtype.element_ty), mask=place < number)
