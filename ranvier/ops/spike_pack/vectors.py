"""What Numba has no words for: 64 numbers compared at once, and rows of a matrix added up in vector registers.

Places are those of elements in an array of any number of axes in row-major order. All are functions of a module, told apart by
the types of their arguments: Numba's cache does not know closures again.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_WORD = 64
_LANES = 16


def _at(context, builder, kind, array, place):
    """The address of an element."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [place])


def _as(builder, address, kind):
    return builder.bitcast(address, kind.as_pointer())


def _splat(builder, value, lanes):
    kind = ir.VectorType(value.type, lanes)
    empty = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(_I32, lanes), [_I32(0)] * lanes))


def _compared(context, builder, kind, array, place):
    width = kind.dtype.bitwidth
    vector = ir.VectorType(ir.IntType(width), _WORD)
    raw = builder.load(_as(builder, _at(context, builder, kind, array, place), vector), align=width // 8)
    # the bits of 0.0 and -0.0 are none but the sign's
    return raw, builder.icmp_unsigned("!=", builder.shl(raw, ir.Constant(vector, [1] * _WORD)), vector(None))


@intrinsic
def active(typing, x, place):
    """Which of 64 numbers, given by their bits as whole numbers of the same width, are not zero: a bit for each."""

    def generate(context, builder, signature, arguments):
        _, there = _compared(context, builder, signature.args[0], *arguments)
        return builder.bitcast(there, _I64)

    return types.uint64(x, types.int64), generate


@intrinsic
def neither(typing, x, place, one):
    """Which of 64 numbers are neither zero nor `one`."""

    def generate(context, builder, signature, arguments):
        raw, there = _compared(context, builder, signature.args[0], *arguments[:2])
        ones = _splat(builder, arguments[2], _WORD)
        return builder.bitcast(builder.and_(there, builder.icmp_unsigned("!=", raw, ones)), _I64)

    return types.uint64(x, types.int64, x.dtype), generate


@intrinsic
def expand(typing, x, place, word, one):
    """Write 64 numbers: `one` where the word has a bit, zero where it has none."""

    def generate(context, builder, signature, arguments):
        array, place, word, one = arguments
        ones = _splat(builder, one, _WORD)
        on = builder.bitcast(word, ir.VectorType(ir.IntType(1), _WORD))
        address = _as(builder, _at(context, builder, signature.args[0], array, place), ones.type)
        builder.store(builder.select(on, ones, ones.type(None)), address, align=signature.args[0].dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(x, types.int64, types.uint64, x.dtype), generate


@intrinsic
def lowest(typing, word):
    """The number of the lowest bit that is set, 64 where none is."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def number_of(typing, word):
    """How many bits are set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _rows_added(vectors, weighted):
    @intrinsic
    def add(typing, out, out_at, matrix, length, column, index, values, at, count):
        def generate(context, builder, signature, arguments):
            out, out_at, matrix, length, column, index, values, at, count = arguments
            kinds = signature.args
            size = kinds[2].dtype.bitwidth // 8
            vector = ir.VectorType(ir.DoubleType() if size == 8 else ir.FloatType(), _LANES)
            place = _at(context, builder, kinds[0], out, out_at)
            steps = [_I64(_LANES * v) for v in range(vectors)]
            sums = [cgutils.alloca_once(builder, vector) for _ in steps]  # registers, once LLVM has seen them
            for step, total in zip(steps, sums, strict=True):
                builder.store(builder.load(_as(builder, builder.gep(place, [step]), vector), align=size), total)
            with cgutils.for_range(builder, count) as loop:
                k = builder.add(at, loop.index)
                i = builder.zext(builder.load(_at(context, builder, kinds[5], index, k)), _I64)
                first = builder.add(builder.mul(i, length), column)
                row = _at(context, builder, kinds[2], matrix, first)
                if weighted:
                    factor = _splat(builder, builder.load(_at(context, builder, kinds[6], values, k)), _LANES)
                for step, total in zip(steps, sums, strict=True):
                    w = builder.load(_as(builder, builder.gep(row, [step]), vector), align=size)
                    if weighted:
                        w = builder.fmul(w, factor, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), w, flags=("contract",)), total)
            for step, total in zip(steps, sums, strict=True):
                builder.store(builder.load(total), _as(builder, builder.gep(place, [step]), vector), align=size)
            return context.get_dummy_value()

        whole = types.int64
        return types.void(out, whole, matrix, whole, whole, index, values, whole, whole), generate

    return add


# out[out_at:] += the sum over k of matrix[index[at + k], column:], `count` rows of `length` numbers, over 16 to 256 columns; the weighted ones take each row times values[at + k], the others don't look at the values
add_16, add_32, add_64, add_128, add_256 = (_rows_added(v, weighted=False) for v in (1, 2, 4, 8, 16))
weighted_16, weighted_32, weighted_64, weighted_128 = (_rows_added(v, weighted=True) for v in (1, 2, 4, 8))


def _dots(vectors):
    @intrinsic
    def dots(typing, found, fixed, fixed_at, matrix, matrix_at, index, at, count):
        def generate(context, builder, signature, arguments):
            found, fixed, fixed_at, matrix, matrix_at, index, at, count = arguments
            kinds = signature.args
            size = kinds[3].dtype.bitwidth // 8
            number = ir.DoubleType() if size == 8 else ir.FloatType()
            vector = ir.VectorType(number, _LANES)
            steps = [_I64(_LANES * v) for v in range(vectors)]
            place = _at(context, builder, kinds[1], fixed, fixed_at)
            factors = [builder.load(_as(builder, builder.gep(place, [s]), vector), align=size) for s in steps]
            name = f"llvm.vector.reduce.fadd.v{_LANES}f{8 * size}"
            reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [number, vector]), name)
            with cgutils.for_range(builder, count) as loop:
                k = builder.add(at, loop.index)
                i = builder.zext(builder.load(_at(context, builder, kinds[5], index, k)), _I64)
                first = builder.add(builder.mul(i, _I64(_LANES * vectors)), matrix_at)
                row = _at(context, builder, kinds[3], matrix, first)
                total = vector(None)
                for step, factor in zip(steps, factors, strict=True):
                    w = builder.load(_as(builder, builder.gep(row, [step]), vector), align=size)
                    total = builder.fadd(builder.fmul(w, factor, flags=("contract",)), total, flags=("contract",))
                place = _at(context, builder, kinds[0], found, k)
                added = builder.call(reduce, [builder.load(place), total], fastmath=("reassoc",))
                builder.store(added, place)
            return context.get_dummy_value()

        whole = types.int64
        return types.void(found, fixed, whole, matrix, whole, index, whole, whole), generate

    return dots


dots_32 = _dots(2)
"""found[at + k] += fixed[fixed_at:] . matrix[matrix_at:][index[at + k]] for `count` k, over rows of 32 numbers."""
