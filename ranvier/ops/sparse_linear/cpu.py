"""Sparse synapses on the CPU: rows of x lie side by side in panels, so that one synapse is one product of vectors.

A panel is [I, PANEL]: PANEL rows of x turned round, which stay in the second-level cache while every synapse reads them.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ranvier.compile.buffers import empty
from ranvier.ops.native import NUMBERS, Kernel, cube, inlined, vector
from ranvier.ops.spike_pack.vectors import dots_32, weighted_32

PANEL = 32
"""Rows of x in a panel."""
_TARGETS = 64
"""Neurons of a block of the gradient of the values."""


def panels(x: Tensor) -> Tensor:
    """x [R, I] as [ceil(R / PANEL), I, PANEL], with zeros where rows are missing."""
    whole = functional.pad(x, (0, 0, 0, -len(x) % PANEL)) if len(x) % PANEL else x
    return whole.reshape(-1, PANEL, x.shape[1]).transpose(1, 2).contiguous()


def product(pointer: Tensor, index: Tensor, values: Tensor, x: Tensor, rows: int) -> Tensor:
    """[rows, O] from panels of x: the sum of values times x over each neuron's synapses."""
    neurons = len(pointer) - 1
    out = empty((len(x), neurons, PANEL), values.dtype)
    kernel = _product_kernel(NUMBERS[values.dtype])
    kernel(len(x), PANEL * len(x) * len(index), pointer, index, values, x, out)
    return out.transpose(1, 2).reshape(-1, neurons)[:rows]


def values_gradient(pointer: Tensor, index: Tensor, x: Tensor, grad: Tensor) -> Tensor:
    """[synapses] from panels of x and of the output's gradient: the sum of their products over all rows."""
    neurons = len(pointer) - 1
    found = torch.empty(len(index), dtype=grad.dtype)
    kernel = _values_kernel(NUMBERS[grad.dtype])
    kernel(-(-neurons // _TARGETS), PANEL * len(x) * len(index), pointer, index, x, grad, found)
    return found


@inlined
def _product(pointer, index, values, x, out, low, high):
    inputs, neurons = x.shape[1], out.shape[1]
    for panel in range(low, high):
        for j in range(neurons):
            for k in range(PANEL):
                out[panel, j, k] = 0
            at, place = pointer[j], (panel * neurons + j) * PANEL
            weighted_32(out, place, x, PANEL, panel * inputs * PANEL, index, values, at, pointer[j + 1] - at)


@inlined
def _values(pointer, index, x, grad, found, low, high):
    inputs, neurons = x.shape[1], grad.shape[1]
    first, last = low * _TARGETS, min(high * _TARGETS, neurons)
    for s in range(pointer[first], pointer[last]):
        found[s] = 0
    for panel in range(x.shape[0]):
        for j in range(first, last):
            at, place = pointer[j], (panel * neurons + j) * PANEL
            dots_32(found, grad, place, x, panel * inputs * PANEL, index, at, pointer[j + 1] - at)


@cache
def _product_kernel(number: Any) -> Kernel:
    def sparse_product(table, low, high):
        pointer, index, values = vector(table, 0, np.int64), vector(table, 1, np.int32), vector(table, 2, number)
        _product(pointer, index, values, cube(table, 3, number), cube(table, 4, number), low, high)

    return Kernel(sparse_product)


@cache
def _values_kernel(number: Any) -> Kernel:
    def sparse_values(table, low, high):
        pointer, index, found = vector(table, 0, np.int64), vector(table, 1, np.int32), vector(table, 4, number)
        _values(pointer, index, cube(table, 2, number), cube(table, 3, number), found, low, high)

    return Kernel(sparse_values)
