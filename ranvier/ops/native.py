"""CPU kernels in Numba: their arguments in a table, their blocks shared out among torch's own threads.

A kernel is a function of (table, low, high) that works on the blocks from low to high - 1 and gets everything else out
of the table by number: `matrix(table, 0, np.float32)` is argument 0 as an array, `integer(table, 1)` argument 1 as a
number. No two blocks may write to the same place.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable
from torch import Tensor

from ranvier.compile.cpu import share

_SLOT = 6
"""Words of the table an argument takes: an address and up to five sizes."""
# sums may be reordered; NaN and Inf stay what they are
_FAST = {"contract", "arcp", "nsz", "reassoc"}
NUMBERS: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
"""What kernels made for a dtype compute in."""
inlined = numba.njit(fastmath=_FAST, error_model="numpy", cache=True, inline="never")
"""Decorates what kernels call."""


class Kernel:
    """A Numba function of (table, low, high), compiled when first run and kept on disk."""

    def __init__(self, function: Callable[[Any, int, int], None]) -> None:
        self.function = function
        self.compiled: Any = None

    def __call__(self, blocks: int, work: int, *arguments: Tensor | int | float) -> None:
        """Run over `blocks` blocks, on one thread where `work` (about the sums to do) is little."""
        table = tabled(arguments)
        share(self.code(), table.ctypes.data, blocks, work)

    def code(self) -> Any:
        """The C function of (address of a table, low, high), compiled where it is not yet."""
        if self.compiled is None:
            signature = types.void(types.CPointer(types.int64), types.int64, types.int64)
            made = numba.cfunc(signature, cache=True, fastmath=_FAST, error_model="numpy")(self.function)
            self.compiled = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(made.address)
            self.made = made  # the code lives as long as this
        return self.compiled


def tabled(arguments: Sequence[Tensor | np.ndarray | int | float]) -> np.ndarray:
    """Arguments as a kernel finds them."""
    table = np.zeros((len(arguments), _SLOT), np.int64)
    for row, argument in zip(table, arguments, strict=True):
        if isinstance(argument, Tensor):
            row[: 1 + argument.ndim] = argument.data_ptr(), *argument.shape
        elif isinstance(argument, np.ndarray):
            row[: 1 + argument.ndim] = argument.ctypes.data, *argument.shape
        elif isinstance(argument, float):
            row[:1] = np.float64(argument).view(np.int64)
        else:
            row[0] = argument
    return table


def contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as kernels take them: without a graph, in row-major order."""
    return tuple([t.detach().contiguous() for t in tensors])


@intrinsic
def pointer(typing, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


@intrinsic
def call(typing, address, table, low, high):
    """Call a kernel, void f(i64* table, i64 low, i64 high), at an address."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word.as_pointer(), word, word])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        builder.call(function, [builder.inttoptr(arguments[1], word.as_pointer()), *arguments[2:]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def _double(typing, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(bits), generate


@register_jitable
def integer(table, slot):
    """Argument `slot`, a whole number."""
    return table[slot * _SLOT]


@register_jitable
def sizes(table, slot):
    """Six whole numbers, the arguments from `slot` on."""
    at, step = slot * _SLOT, _SLOT
    return (
        table[at],
        table[at + step],
        table[at + 2 * step],
        table[at + 3 * step],
        table[at + 4 * step],
        table[at + 5 * step],
    )


@register_jitable
def real(table, slot):
    """Argument `slot`, a number."""
    return _double(table[slot * _SLOT])


@register_jitable
def vector(table, slot, dtype):
    """Argument `slot`, a tensor of one axis."""
    at = slot * _SLOT
    return numba.carray(pointer(table[at]), (table[at + 1],), dtype)


@register_jitable
def matrix(table, slot, dtype):
    """Argument `slot`, a tensor of two axes."""
    at = slot * _SLOT
    return numba.carray(pointer(table[at]), (table[at + 1], table[at + 2]), dtype)


@register_jitable
def cube(table, slot, dtype):
    """Argument `slot`, a tensor of three axes."""
    at = slot * _SLOT
    return numba.carray(pointer(table[at]), (table[at + 1], table[at + 2], table[at + 3]), dtype)


@register_jitable
def four(table, slot, dtype):
    """Argument `slot`, a tensor of four axes."""
    at = slot * _SLOT
    return numba.carray(pointer(table[at]), (table[at + 1], table[at + 2], table[at + 3], table[at + 4]), dtype)
