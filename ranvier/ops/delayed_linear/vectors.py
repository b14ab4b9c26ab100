"""A synapse's taps as one vector: added where its spikes arrive, gathered where they came from, or met by 16 samples at once.

Places are those of elements in a flat array. All are functions of a module: Numba's cache does not know closures again.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, STEPS = 16, 8
"""Samples and time steps of a tile, whose sums stay in registers."""
GROUP = 4
"""Outputs whose taps stay in registers while all spikes of an input meet them."""
_I64, _I32, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()


def _at(context, builder, kind, array, place):
    """The address of an element."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


def _vector(builder, address, lanes):
    return builder.bitcast(address, ir.VectorType(_FLOAT, lanes).as_pointer())


def _splat(builder, value, lanes):
    empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(_I32, lanes), [_I32(0)] * lanes))


def _times(builder, vector, factor, lanes):
    return vector if factor is None else builder.fmul(vector, _splat(builder, factor, lanes), flags=("contract",))


def _synapses(context, builder, kinds, arguments, lanes):
    """Of each of the GROUP outputs: where its line begins, and the address of its taps."""
    line, base, steps, first, taps, synapse, inputs, width, k = arguments
    for o in range(GROUP):
        this = builder.add(synapse, builder.mul(inputs, _I64(o)))
        lag = builder.sext(builder.load(_at(context, builder, kinds[3], first, this)), _I64)
        start = builder.add(builder.add(base, builder.mul(steps, _I64(o))), builder.add(lag, k))
        place = _at(context, builder, kinds[4], taps, builder.add(builder.mul(this, width), k))
        yield _at(context, builder, kinds[0], line, start), _vector(builder, place, lanes)


def _spikes(context, builder, kinds, arguments, weighted):
    """For each spike of a list: its code, and its value if it has one."""
    codes, values, at, count = arguments
    with cgutils.for_range(builder, count) as loop:
        k = builder.add(at, loop.index)
        code = builder.zext(builder.load(_at(context, builder, kinds[0], codes, k)), _I64)
        yield code, builder.load(_at(context, builder, kinds[1], values, k)) if weighted else None


def _signature(line, first, taps, codes, values):
    n = types.int64
    return types.void(line, n, n, first, taps, n, n, n, n, codes, values, n, n)


def _scattered(lanes, weighted):
    @intrinsic
    def scatter(typing, line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, count):
        def generate(context, builder, signature, arguments):
            found = list(_synapses(context, builder, signature.args[:9], arguments[:9], lanes))
            loaded = [builder.load(place, align=4) for _, place in found]
            for code, value in _spikes(context, builder, signature.args[9:], arguments[9:], weighted):
                for (start, _), tap in zip(found, loaded, strict=True):
                    place = _vector(builder, builder.gep(start, [code]), lanes)
                    arriving = _times(builder, tap, value, lanes)
                    after = builder.fadd(builder.load(place, align=4), arriving, flags=("contract",))
                    builder.store(after, place, align=4)
            return context.get_dummy_value()

        return _signature(line, first, taps, codes, values), generate

    return scatter


def _gathered(lanes, weighted):
    @intrinsic
    def gather(typing, line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, count):
        def generate(context, builder, signature, arguments):
            found = list(_synapses(context, builder, signature.args[:9], arguments[:9], lanes))
            # registers, once LLVM has seen them
            totals = [cgutils.alloca_once(builder, place.type.pointee) for _, place in found]
            for (_, place), total in zip(found, totals, strict=True):
                builder.store(builder.load(place, align=4), total)
            for code, value in _spikes(context, builder, signature.args[9:], arguments[9:], weighted):
                for (start, _), total in zip(found, totals, strict=True):
                    seen = builder.load(_vector(builder, builder.gep(start, [code]), lanes), align=4)
                    seen = _times(builder, seen, value, lanes)
                    builder.store(builder.fadd(builder.load(total), seen, flags=("contract",)), total)
            for (_, place), total in zip(found, totals, strict=True):
                builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        return _signature(line, first, taps, codes, values), generate

    return gather


# for GROUP outputs o, whose synapses are synapse + o inputs: scatter is line[base + o steps + first + k + code:] += taps[k:] for
# each of `count` spikes from `at` on, times its value where weighted; gather is taps[k:] += line[...], likewise. All outputs
# meet a spike before the next one comes: a sum that was stored a moment ago at places beside takes long to load
scatter_2, scatter_4, scatter_8, scatter_16 = (_scattered(n, weighted=False) for n in (2, 4, 8, 16))
weighted_scatter_2, weighted_scatter_4, weighted_scatter_8, weighted_scatter_16 = (
    _scattered(n, weighted=True) for n in (2, 4, 8, 16)
)
gather_2, gather_4, gather_8, gather_16 = (_gathered(n, weighted=False) for n in (2, 4, 8, 16))
weighted_gather_2, weighted_gather_4, weighted_gather_8, weighted_gather_16 = (
    _gathered(n, weighted=True) for n in (2, 4, 8, 16)
)


def _met(builder, sums, row, direction, reach, tap_of):
    """sums[u] += taps met by rows: `reach` neighbours, whose rows are loaded once; the longest lag first."""
    back = range(reach - 1, -1, -1)
    for k in back:
        tap = _splat(builder, tap_of(k), LANES)
        for u, total in enumerate(sums):
            place = builder.gep(row, [builder.add(_I64(LANES * u), builder.mul(direction, _I64(k)))])
            product = builder.fmul(tap, builder.load(_vector(builder, place, LANES), align=4), flags=("contract",))
            builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)


def _tiled(two, sign):
    @intrinsic
    def tile(typing, out, out_at, line, line_at, line_step, first, synapse, step, taps, width, lanes, number, channels):
        def generate(context, builder, signature, arguments):
            kinds = signature.args
            out, out_at, line, line_at, line_step, first, synapse, step, taps, width, lanes, number, channels = (
                arguments
            )
            place = _at(context, builder, kinds[0], out, out_at)
            rows = [_vector(builder, builder.gep(place, [_I64(LANES * u)]), LANES) for u in range(STEPS)]
            sums = [cgutils.alloca_once(builder, row.type.pointee) for row in rows]
            for row, total in zip(rows, sums, strict=True):
                builder.store(builder.load(row, align=4), total)
            direction = _I64(sign * LANES)
            with cgutils.for_range(builder, channels) as channel:
                this = builder.add(synapse, builder.mul(channel.index, step))
                lag = builder.sext(builder.load(_at(context, builder, kinds[5], first, this)), _I64)
                start = builder.add(line_at, builder.mul(channel.index, line_step))
                row = _at(context, builder, kinds[2], line, builder.add(start, builder.mul(direction, lag)))
                tap = _at(context, builder, kinds[8], taps, builder.mul(this, width))
                if two:
                    _met(builder, sums, row, direction, 2, lambda k: builder.load(builder.gep(tap, [_I64(k)])))
                else:
                    parts = builder.sdiv(builder.add(number, builder.sub(lanes, _I64(1))), lanes)
                    with cgutils.for_range(builder, parts) as part:
                        low = builder.mul(part.index, lanes)
                        left = builder.sub(number, low)
                        some = builder.select(builder.icmp_signed("<", left, lanes), left, lanes)
                        with cgutils.for_range(builder, some) as back:
                            k = builder.add(low, builder.sub(builder.sub(some, _I64(1)), back.index))
                            here = builder.gep(row, [builder.mul(direction, k)])
                            at = builder.gep(tap, [k])
                            _met(builder, sums, here, direction, 1, lambda _, at=at: builder.load(at))
            for row, total in zip(rows, sums, strict=True):
                builder.store(builder.load(total), row, align=4)
            return context.get_dummy_value()

        n = types.int64
        return types.void(out, n, line, n, n, first, n, n, taps, n, n, n, n), generate

    return tile


# out += taps met by line, at 8 time steps of 16 samples, summed over channels. Channel c lies at line_at + c line_step; its
# synapse is synapse + c step, with taps of `width` places, of which `number` count, at lags from first[synapse] on, back or
# ahead in time. Within `lanes` taps the longest lag is added first: the order in which spikes arrive
back_2, ahead_2 = _tiled(True, -1), _tiled(True, 1)
back_any, ahead_any = _tiled(False, -1), _tiled(False, 1)
