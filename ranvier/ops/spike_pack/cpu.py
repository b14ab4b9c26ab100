"""Packing on the CPU: 64 numbers become a word, a word becomes the numbers of its bits."""

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.buffers import empty
from ranvier.ops.native import Kernel, inlined, integer, matrix, vector
from ranvier.ops.spike_pack.vectors import active, expand, lowest, neither, number_of

_ROWS = 16
"""Rows of a block."""
_ONE = {torch.float32: 0x3F800000, torch.float64: 0x3FF0000000000000, torch.bfloat16: 0x3F80, torch.float16: 0x3C00}
"""The bits of 1."""


def pack(x: Tensor, width: int) -> tuple[Tensor, Tensor, bool]:
    """A flat x as words [R, ceil(width / 64)], `width` numbers a row: the words, how many are not zero in each row, and
    whether all those are one."""
    rows = -(-x.numel() // width)
    words = empty((rows, -(-width // 64)), torch.int64)
    counts, odd = torch.empty(rows, dtype=torch.int32), torch.empty(rows, dtype=torch.uint8)
    kernel = {2: _pack_16, 4: _pack_32, 8: _pack_64}[x.element_size()]
    magnitude = (1 << (8 * x.element_size() - 1)) - 1
    kernel(-(-rows // _ROWS), x.numel(), x, words, counts, odd, width, _ONE[x.dtype], magnitude)
    return words, counts, not odd.any().item()


def unpack(words: Tensor, width: int, number: int, dtype: torch.dtype) -> Tensor:
    """The `number` zeros and ones of words, as a flat tensor."""
    x = empty((number,), dtype)
    kernel = {2: _unpack_16, 4: _unpack_32, 8: _unpack_64}[dtype.itemsize]
    kernel(-(-len(words) // _ROWS), number, words, x, width, _ONE[dtype])
    return x


def indices(words: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Where each row's indices begin [R + 1], and the indices of all rows, in order."""
    pointer = torch.zeros(len(words) + 1, dtype=torch.int64)
    torch.cumsum(counts, 0, out=pointer[1:])
    index = empty((int(pointer[-1]),), torch.int32)
    _indices(-(-len(words) // _ROWS), words.numel(), words, pointer, index)
    return pointer, index


def grouped(row: Tensor, column: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Events in any order, by row: where each row's begin [R + 1], and their columns; in one row they keep their order."""
    pointer = torch.zeros(rows + 2, dtype=torch.int64)
    index = torch.empty(len(row), dtype=torch.int32)
    _grouped(1, len(row), row, column, pointer, index)
    return pointer[:-1], index


@inlined
def _pack(x, words, counts, odd, columns, one, magnitude, low, high):
    for r in range(low * _ROWS, min(high * _ROWS, words.shape[0])):
        first = r * columns
        n = min(columns, x.size - first)
        found, strange = np.int64(0), np.uint64(0)
        whole = n // 64
        for w in range(whole):
            word = active(x, first + 64 * w)
            strange |= neither(x, first + 64 * w, one)
            words[r, w] = word
            found += number_of(word)
        rest = n - 64 * whole
        if rest:
            word = np.uint64(0)
            if n >= 64:  # the last 64, of which some are in the word before
                word = active(x, first + n - 64) >> np.uint64(64 - rest)
                strange |= neither(x, first + n - 64, one)
            else:
                for k in range(rest):
                    value = x[first + k]
                    if np.uint64(value) & np.uint64(magnitude):
                        word |= np.uint64(1) << np.uint64(k)
                        strange |= np.uint64(value != one)
            words[r, whole] = word
            found += number_of(word)
        for w in range(whole + (rest > 0), words.shape[1]):
            words[r, w] = 0
        counts[r] = found
        odd[r] = strange != np.uint64(0)


@Kernel
def _pack_16(table, low, high):
    x, words = vector(table, 0, np.uint16), matrix(table, 1, np.uint64)
    counts, odd, one = vector(table, 2, np.int32), vector(table, 3, np.uint8), np.uint16(integer(table, 5))
    _pack(x, words, counts, odd, integer(table, 4), one, integer(table, 6), low, high)


@Kernel
def _pack_32(table, low, high):
    x, words = vector(table, 0, np.uint32), matrix(table, 1, np.uint64)
    counts, odd, one = vector(table, 2, np.int32), vector(table, 3, np.uint8), np.uint32(integer(table, 5))
    _pack(x, words, counts, odd, integer(table, 4), one, integer(table, 6), low, high)


@Kernel
def _pack_64(table, low, high):
    x, words = vector(table, 0, np.uint64), matrix(table, 1, np.uint64)
    counts, odd, one = vector(table, 2, np.int32), vector(table, 3, np.uint8), np.uint64(integer(table, 5))
    _pack(x, words, counts, odd, integer(table, 4), one, integer(table, 6), low, high)


@inlined
def _unpack(words, x, columns, one, low, high):
    for r in range(low * _ROWS, min(high * _ROWS, words.shape[0])):
        first = r * columns
        n = min(columns, x.size - first)
        whole = n // 64
        for w in range(whole):
            expand(x, first + 64 * w, words[r, w], one)
        for k in range(n - 64 * whole):
            on = (words[r, whole] >> np.uint64(k)) & np.uint64(1)
            x[first + 64 * whole + k] = one if on else 0


@Kernel
def _unpack_16(table, low, high):
    words, x = matrix(table, 0, np.uint64), vector(table, 1, np.uint16)
    _unpack(words, x, integer(table, 2), np.uint16(integer(table, 3)), low, high)


@Kernel
def _unpack_32(table, low, high):
    words, x = matrix(table, 0, np.uint64), vector(table, 1, np.uint32)
    _unpack(words, x, integer(table, 2), np.uint32(integer(table, 3)), low, high)


@Kernel
def _unpack_64(table, low, high):
    words, x = matrix(table, 0, np.uint64), vector(table, 1, np.uint64)
    _unpack(words, x, integer(table, 2), np.uint64(integer(table, 3)), low, high)


@Kernel
def _indices(table, low, high):
    words, pointer, index = matrix(table, 0, np.uint64), vector(table, 1, np.int64), vector(table, 2, np.int32)
    for r in range(low * _ROWS, min(high * _ROWS, words.shape[0])):
        at, end = pointer[r], pointer[r + 1]
        for w in range(words.shape[1]):
            word = words[r, w]
            left = number_of(word)
            k = 0
            if at + 4 <= end:  # four without asking whether they are there: what is too much is overwritten
                for j in range(4):
                    index[at + j] = 64 * w + (lowest(word) & 63)
                    word &= word - np.uint64(1)
                k = 4
            while k < left:
                index[at + k] = 64 * w + lowest(word)
                word &= word - np.uint64(1)
                k += 1
            at += left


@Kernel
def _grouped(table, low, high):
    row, column = vector(table, 0, np.int64), vector(table, 1, np.int32)
    pointer, index = vector(table, 2, np.int64), vector(table, 3, np.int32)
    for k in range(row.size):
        pointer[row[k] + 2] += 1
    for r in range(2, pointer.size):
        pointer[r] += pointer[r - 1]
    for k in range(row.size):  # a row's place moves on, in the end to where the next row begins
        at = pointer[row[k] + 1]
        index[at] = column[k]
        pointer[row[k] + 1] = at + 1
