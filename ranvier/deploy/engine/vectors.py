"""What the engine's loop asks of the machine itself: rows of floats added in whole vectors, memory at an address as an array."""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ranvier.compile.llvm_operations import LANES
from ranvier.ops.native import inlined, pointer


def _rows_added(rows, weighted):
    """An intrinsic that adds some rows of floats, each times a factor, onto those at an address: vector by vector."""
    lanes, number, word, short = LANES, ir.FloatType(), ir.IntType(64), ir.IntType(32)
    vector = ir.VectorType(number, lanes)

    def generate(context, builder, signature, arguments):
        out, length, bases, factors = arguments[0], arguments[1], arguments[2 : 2 + rows], arguments[2 + rows :]

        def splat(value, kind):
            empty = ir.Constant(ir.VectorType(kind, lanes), ir.Undefined)
            one = builder.insert_element(empty, value, short(0))
            return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(short, lanes), [0] * lanes))

        wide = [splat(f, number) for f in factors]

        def at(address, floats):
            return builder.inttoptr(builder.add(address, builder.shl(floats, word(2))), vector.as_pointer())

        def sum_of(load, place):
            parts = [load(at(base, place)) for base in bases]
            if weighted:
                parts = [builder.fmul(f, p, flags=("contract",)) for f, p in zip(wide, parts, strict=True)]
            while len(parts) > 1:
                parts = [builder.fadd(*parts[i : i + 2], flags=("contract",)) for i in range(0, len(parts), 2)]
            return builder.fadd(load(at(out, place)), parts[0], flags=("contract",))

        with cgutils.for_range(builder, builder.lshr(length, word(4))) as loop:
            place = builder.shl(loop.index, word(4))
            builder.store(sum_of(lambda p: builder.load(p, align=4), place), at(out, place), align=4)
        whole = builder.and_(length, word(~(lanes - 1)))
        with builder.if_then(builder.icmp_unsigned("!=", whole, length)):
            numbers = ir.Constant(ir.VectorType(word, lanes), list(range(lanes)))
            mask = builder.icmp_unsigned("<", numbers, splat(builder.sub(length, whole), word))
            kind, four = vector.as_pointer(), short(4)
            load = ir.FunctionType(vector, [kind, short, mask.type, vector])
            store = ir.FunctionType(ir.VoidType(), [vector, kind, short, mask.type])
            load = cgutils.get_or_insert_function(builder.module, load, f"llvm.masked.load.v{lanes}f32.p0")
            store = cgutils.get_or_insert_function(builder.module, store, f"llvm.masked.store.v{lanes}f32.p0")
            total = sum_of(lambda p: builder.call(load, [p, four, mask, ir.Constant(vector, None)]), whole)
            builder.call(store, [total, at(out, whole), four, mask])
        return context.get_dummy_value()

    kinds = [types.int64] * (2 + rows) + [types.float32] * (rows if weighted else 0)
    return types.void(*kinds), generate


@intrinsic
def add(typing, out, length, weights, factor):
    return _rows_added(1, True)


@intrinsic
def add_row(typing, out, length, a):
    return _rows_added(1, False)


@intrinsic
def add_eight(typing, out, length, a, b, c, d, e, f, g, h):
    return _rows_added(8, False)


@intrinsic
def add_four_weighted(typing, out, length, a, b, c, d, va, vb, vc, vd):
    return _rows_added(4, True)


@inlined
def floats(address, size):
    return numba.carray(pointer(address), (size,), np.float32)


@inlined
def whole(address, size):
    return numba.carray(pointer(address), (size,), np.int32)


@inlined
def words(address, size):
    return numba.carray(pointer(address), (size,), np.int64)
