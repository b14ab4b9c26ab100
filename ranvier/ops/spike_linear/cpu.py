"""Sums over active indices on the CPU: forward over each row's inputs, for the weights over each input's rows.

Both add up rows of a matrix in vector registers. For the weights the rows are taken in chunks whose gradients stay in the
second-level cache, and a chunk's indices are turned round first, so that no two threads add to the same place.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ranvier.compile.buffers import empty
from ranvier.ops.native import NUMBERS, Kernel, inlined, matrix, vector
from ranvier.ops.spike_pack.vectors import (
    add_16,
    add_32,
    add_64,
    add_128,
    add_256,
    weighted_16,
    weighted_32,
    weighted_64,
    weighted_128,
)

_LANES = 16
_TILE = 256
"""Columns that are added up in registers at once."""
_ROWS = 64
"""Rows of a block."""
_CHUNK = 512
"""Rows whose gradients are read again and again while they are in the cache."""
_INPUTS = 8
"""Inputs of a block."""


def forward(pointer: Tensor, index: Tensor, values: Tensor | None, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[R, O]: the sum of the columns of weight [O, I] at each row's indices, times their values where there are some."""
    rows, outputs = len(pointer) - 1, len(weight)
    turned = _padded(weight.t())
    start = weight.new_zeros(outputs) if bias is None else bias.contiguous()
    out = empty((rows, outputs), weight.dtype)
    kernel = _forward_kernel(NUMBERS[weight.dtype])
    work = outputs * (rows + len(index))
    kernel(-(-rows // _ROWS), work, pointer, index, _given(values, weight.dtype), turned, start, out)
    return out


def weight_gradient(pointer: Tensor, index: Tensor, values: Tensor | None, grad: Tensor, inputs: int) -> Tensor:
    """[O, I]: the sum of the rows of grad [R, O] in which each input is active, times its values there."""
    rows, outputs = grad.shape
    chunks = -(-rows // _CHUNK)
    begins = torch.zeros(chunks, inputs + 2, dtype=torch.int64)
    row, given = empty(index.shape, torch.int32), _given(values, grad.dtype)
    turned, padded = empty(given.shape, grad.dtype), _padded(grad)
    turn, gather = (kernel(NUMBERS[grad.dtype]) for kernel in (_turn_kernel, _gather_kernel))
    turn(chunks, 4 * len(index), pointer, index, given, begins, row, turned)
    found = empty((inputs, padded.shape[1]), grad.dtype)
    gather(-(-inputs // _INPUTS), outputs * len(index), begins, row, turned, padded, found)
    return found[:, :outputs].t()


def _padded(x: Tensor) -> Tensor:
    """With as many columns as whole vectors have."""
    missing = -x.shape[1] % _LANES
    return functional.pad(x, (0, missing)) if missing else x.contiguous()


def _given(values: Tensor | None, dtype: torch.dtype) -> Tensor:
    return torch.empty(0, dtype=dtype) if values is None else values.to(dtype)


@inlined
def _add(out, out_at, rows, column, width, index, values, at, count):
    length = rows.shape[1]
    if values.size:
        if width == 256:
            weighted_128(out, out_at, rows, length, column, index, values, at, count)
            weighted_128(out, out_at + 128, rows, length, column + 128, index, values, at, count)
        elif width == 128:
            weighted_128(out, out_at, rows, length, column, index, values, at, count)
        elif width == 64:
            weighted_64(out, out_at, rows, length, column, index, values, at, count)
        elif width == 32:
            weighted_32(out, out_at, rows, length, column, index, values, at, count)
        else:
            weighted_16(out, out_at, rows, length, column, index, values, at, count)
    elif width == 256:
        add_256(out, out_at, rows, length, column, index, values, at, count)
    elif width == 128:
        add_128(out, out_at, rows, length, column, index, values, at, count)
    elif width == 64:
        add_64(out, out_at, rows, length, column, index, values, at, count)
    elif width == 32:
        add_32(out, out_at, rows, length, column, index, values, at, count)
    else:
        add_16(out, out_at, rows, length, column, index, values, at, count)


@inlined
def _width(left):
    """The widest tile of columns that is there."""
    width = _TILE
    while width > left:
        width //= 2
    return width


@inlined
def _forward(pointer, index, values, weight, start, out, low, high):
    outputs, length = out.shape[1], weight.shape[1]
    edge = np.empty(_TILE, out.dtype)  # for columns that are not all there
    for block in range(low, high):
        column = 0
        while column < length:
            width = _width(length - column)
            whole = min(width, outputs - column)
            for r in range(block * _ROWS, min((block + 1) * _ROWS, out.shape[0])):
                at, count = pointer[r], pointer[r + 1] - pointer[r]
                if whole == width:
                    for k in range(width):
                        out[r, column + k] = start[column + k]
                    _add(out, r * outputs + column, weight, column, width, index, values, at, count)
                else:
                    for k in range(whole):
                        edge[k] = start[column + k]
                    _add(edge, 0, weight, column, width, index, values, at, count)
                    for k in range(whole):
                        out[r, column + k] = edge[k]
            column += width


@inlined
def _turn(pointer, index, values, begins, row, turned, low, high):
    for chunk in range(low, high):
        first, last = chunk * _CHUNK, min((chunk + 1) * _CHUNK, pointer.size - 1)
        place = begins[chunk]
        for k in range(pointer[first], pointer[last]):
            place[np.uint32(index[k]) + 2] += 1
        place[0] = place[1] = pointer[first]
        for i in range(2, place.size):
            place[i] += place[i - 1]
        for r in range(first, last):
            for k in range(pointer[r], pointer[r + 1]):
                input_after = np.uint32(index[k]) + 1
                at = place[input_after]  # an input's place moves on, in the end to where the next one begins
                place[input_after] = at + 1
                row[at] = r
                if values.size:
                    turned[at] = values[k]


@inlined
def _gather(begins, row, values, grad, found, low, high):
    first, last = low * _INPUTS, min(high * _INPUTS, found.shape[0])
    length = found.shape[1]
    for i in range(first, last):
        for k in range(length):
            found[i, k] = 0
    for chunk in range(begins.shape[0]):
        column = 0
        while column < length:
            width = _width(length - column)
            for i in range(first, last):
                at, count = begins[chunk, i], begins[chunk, i + 1] - begins[chunk, i]
                if count:
                    _add(found, i * length + column, grad, column, width, row, values, at, count)
            column += width


@cache
def _forward_kernel(number: Any) -> Kernel:
    def spike_forward(table, low, high):
        pointer, index, values = vector(table, 0, np.int64), vector(table, 1, np.int32), vector(table, 2, number)
        weight, start, out = matrix(table, 3, number), vector(table, 4, number), matrix(table, 5, number)
        _forward(pointer, index, values, weight, start, out, low, high)

    return Kernel(spike_forward)


@cache
def _turn_kernel(number: Any) -> Kernel:
    def spike_turn(table, low, high):
        pointer, index, values = vector(table, 0, np.int64), vector(table, 1, np.int32), vector(table, 2, number)
        begins, row, turned = matrix(table, 3, np.int64), vector(table, 4, np.int32), vector(table, 5, number)
        _turn(pointer, index, values, begins, row, turned, low, high)

    return Kernel(spike_turn)


@cache
def _gather_kernel(number: Any) -> Kernel:
    def spike_gather(table, low, high):
        begins, row, values = matrix(table, 0, np.int64), vector(table, 1, np.int32), vector(table, 2, number)
        _gather(begins, row, values, matrix(table, 3, number), matrix(table, 4, number), low, high)

    return Kernel(spike_gather)
