"""What the CPU kernels do in vectors of their own making: a tile of a matrix product, and which numbers of a row are not 0."""

from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDE = bool(llvm.get_host_cpu_features().get("avx512f", False))
LANES = 16
"""Numbers that `mask` looks at."""
BYTES, VECTORS, SUMS = (64, 4, 16) if WIDE else (32, 2, 8)
"""Bytes of a vector; vectors in the row of a tile, and in a sum of rows: as many as stay in registers."""
ROWS = 4
"""Rows of a tile."""
NARROW = 8
"""Numbers of a tile where fewer than a whole one are left."""
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _rows(context, builder, kind, array):
    """Address of a matrix in row-major order, and the length of its rows."""
    made = context.make_array(kind)(context, builder, array)
    return made.data, cgutils.unpack_tuple(builder, made.shape, 2)[1]


def _vectors(builder, data, start, number, count, narrow):
    """Addresses of `count` vectors that follow each other from data[start] on, their type and alignment."""
    size = 4 if number == ir.FloatType() else 8
    across = NARROW if narrow else BYTES // size
    vector = ir.VectorType(number, across)
    places = [builder.gep(data, [builder.add(start, _I64(k * across))]) for k in range(count)]
    return [builder.bitcast(p, vector.as_pointer()) for p in places], vector, size


def _spread(builder, vector, place, size):
    """A number in all places of a vector."""
    one = builder.load(place, align=size)
    undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(_I32, vector.count), None)
    return builder.shuffle_vector(builder.insert_element(undefined, one, _I32(0)), undefined, zeros)


def _accumulate(builder, places, vector, size, low, high, terms):
    """Add terms(i) for i from low to high - 1 to what is at `places`, in registers."""
    before = builder.block
    sums = [builder.load(place, align=size) for place in places]
    head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    at = builder.phi(_I64)
    at.add_incoming(low, before)
    running = [builder.phi(vector) for _ in sums]
    for phi, value in zip(running, sums, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", at, high), body, done)
    builder.position_at_end(body)
    for phi, (factor, column) in zip(running, terms(at), strict=True):
        product = builder.fmul(factor, column, flags=["contract"])
        phi.add_incoming(builder.fadd(product, phi, flags=["contract"]), body)
    at.add_incoming(builder.add(at, _I64(1)), body)
    builder.branch(head)
    builder.position_at_end(done)
    for place, phi in zip(places, running, strict=True):
        builder.store(phi, place, align=size)


def _tile(rows: int, vectors: int, narrow: bool = False) -> Any:
    @intrinsic
    def tile(typing, c, r, j, a, b, low, high):
        def generate(context, builder, signature, arguments):
            number = context.get_data_type(signature.args[0].dtype)
            (c, c_row), (a, a_row), (b, b_row) = (
                _rows(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 4)
            )
            _, r, j, _, _, low, high = arguments
            lines = [builder.add(r, _I64(i)) for i in range(rows)]
            places = []
            for line in lines:
                row, vector, size = _vectors(
                    builder, c, builder.add(builder.mul(line, c_row), j), number, vectors, narrow
                )
                places += row
            left = [builder.gep(a, [builder.mul(line, a_row)]) for line in lines]

            def terms(at):
                right, _, _ = _vectors(builder, b, builder.add(builder.mul(at, b_row), j), number, vectors, narrow)
                columns = [builder.load(place, align=size) for place in right]
                factors = [_spread(builder, vector, builder.gep(line, [at]), size) for line in left]
                return [(factor, column) for factor in factors for column in columns]

            _accumulate(builder, places, vector, size, low, high, terms)
            return context.get_dummy_value()

        return types.void(c, types.int64, types.int64, a, b, types.int64, types.int64), generate

    return tile


def _sum(vectors: int, narrow: bool = False) -> Any:
    @intrinsic
    def total(typing, c, r, j, b, places, values, count):
        def generate(context, builder, signature, arguments):
            number = context.get_data_type(signature.args[0].dtype)
            (c, c_row), (b, b_row) = (_rows(context, builder, signature.args[i], arguments[i]) for i in (0, 3))
            _, r, j, _, _, _, count = arguments
            which, factors = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (4, 5)
            )
            start = builder.add(builder.mul(r, c_row), j)
            into, vector, size = _vectors(builder, c, start, number, vectors, narrow)

            def terms(at):
                row = builder.sext(builder.load(builder.gep(which, [at]), align=4), _I64)
                start = builder.add(builder.mul(row, b_row), j)
                columns = [builder.load(p, align=size) for p in _vectors(builder, b, start, number, vectors, narrow)[0]]
                factor = _spread(builder, vector, builder.gep(factors, [at]), size)
                return [(factor, column) for column in columns]

            _accumulate(builder, into, vector, size, _I64(0), count, terms)
            return context.get_dummy_value()

        return types.void(c, types.int64, types.int64, b, places, values, types.int64), generate

    return total


_whole, _row, _narrow, _single = _tile(ROWS, VECTORS), _tile(1, VECTORS), _tile(ROWS, 1, True), _tile(1, 1, True)
_long, _short, _least = _sum(SUMS), _sum(SUMS // 4), _sum(1, True)
_DEPTH = 256
"""Rows of b that a panel takes: it stays in the second-level cache while all rows of a meet it."""


@numba.njit(cache=True, inline="never", error_model="numpy", fastmath={"contract"})
def multiply_add(c, a, b, first, last):
    """c[first:last] += a[first:last] @ b, all three in row-major order."""
    depth, width = b.shape
    step = BYTES // c.itemsize * VECTORS
    rows = first + (last - first) // ROWS * ROWS
    for low in range(0, depth, _DEPTH):
        high = min(low + _DEPTH, depth)
        j = 0
        while j + step <= width:
            for r in range(first, rows, ROWS):
                _whole(c, r, j, a, b, low, high)
            for r in range(rows, last):
                _row(c, r, j, a, b, low, high)
            j += step
        while j + NARROW <= width:
            for r in range(first, rows, ROWS):
                _narrow(c, r, j, a, b, low, high)
            for r in range(rows, last):
                _single(c, r, j, a, b, low, high)
            j += NARROW
        for r in range(first, last):
            for column in range(j, width):
                total = c[r, column]
                for k in range(low, high):
                    total += a[r, k] * b[k, column]
                c[r, column] = total


@numba.njit(cache=True, inline="never", error_model="numpy", fastmath={"contract"})
def add_rows(c, r, b, places, values, count, first, last):
    """c[r, first:last] += sum of values[i] b[places[i], first:last] over the first `count`."""
    across = BYTES // c.itemsize
    j = first
    while j + across * SUMS <= last:
        _long(c, r, j, b, places, values, count)
        j += across * SUMS
    while j + across * (SUMS // 4) <= last:
        _short(c, r, j, b, places, values, count)
        j += across * (SUMS // 4)
    while j + NARROW <= last:
        _least(c, r, j, b, places, values, count)
        j += NARROW
    for column in range(j, last):
        total = c[r, column]
        for i in range(count):
            total += values[i] * b[places[i], column]
        c[r, column] = total


@intrinsic
def mask(typing, rows, r, j):
    """A bit for each of the LANES numbers from rows[r, j] on: whether it is not 0."""

    def generate(context, builder, signature, arguments):
        number = context.get_data_type(signature.args[0].dtype)
        vector = ir.VectorType(number, LANES)
        data, length = _rows(context, builder, signature.args[0], arguments[0])
        place = builder.gep(data, [builder.add(builder.mul(arguments[1], length), arguments[2])])
        value = builder.load(builder.bitcast(place, vector.as_pointer()), align=4 if number == ir.FloatType() else 8)
        there = builder.fcmp_unordered("!=", value, ir.Constant(vector, [0.0] * LANES))
        return builder.zext(builder.bitcast(there, ir.IntType(LANES)), _I64)

    return types.int64(rows, types.int64, types.int64), generate


@intrinsic
def ones(typing, bits):
    """How many bits are 1."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate


@intrinsic
def lowest(typing, bits):
    """The place of the lowest bit that is 1."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate
