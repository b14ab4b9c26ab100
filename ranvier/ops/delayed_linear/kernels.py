"""CPU kernels of a delayed linear layer whose cost follows the spikes and the taps.

A synapse's taps are what it adds to its output at lags first, first + 1, ...: [O, I, width] numbers, of which the last may
be padding. Samples go in chunks. A chunk's spikes are sorted by input and, for each input, by time; a spike's code is
where its sample and step lie in the chunk's line [samples, outputs of a block, steps].
"""

from math import ceil, exp

import numpy as np

from ranvier.ops.delayed_linear import vectors as v
from ranvier.ops.delayed_linear.shapes import EPSILON
from ranvier.ops.native import Kernel, cube, inlined, integer, matrix, real, vector
from ranvier.ops.spike_pack.vectors import lowest

U = np.uintp  # an index that can't count from the end


@inlined
def _lag(delay, longest):
    """The delay as an index that is safe: NaN is none."""
    return min(max(delay, 0.0), float(longest)) if delay == delay else 0.0


@Kernel
def linear_taps(table, low, high):
    """Taps of linear interpolation: two, between which the weight is shared; rounded ones give it all to the nearer."""
    weight, delay = matrix(table, 0, np.float32), matrix(table, 1, np.float32)
    first, taps = matrix(table, 2, np.int32), cube(table, 3, np.float32)
    longest, rounded = integer(table, 4), integer(table, 5)
    for o in range(low, high):
        for i in range(weight.shape[1]):
            lag = min(np.int64(_lag(delay[o, i], longest)), max(longest - 1, 0))
            part = delay[o, i] - np.float32(lag)
            if rounded:
                part = np.rint(delay[o, i]) - np.float32(lag)
            first[o, i] = lag
            taps[o, i, 0] = weight[o, i] * (np.float32(1) - part)
            taps[o, i, 1] = weight[o, i] * part


@Kernel
def linear_gradients(table, low, high):
    """Gradients of weight and delay from those of the two taps."""
    weight, delay = matrix(table, 0, np.float32), matrix(table, 1, np.float32)
    first, gtaps = matrix(table, 2, np.int32), cube(table, 3, np.float32)
    gweight, gdelay = matrix(table, 4, np.float32), matrix(table, 5, np.float32)
    rounded = integer(table, 6)
    for o in range(low, high):
        for i in range(weight.shape[1]):
            part = delay[o, i] - np.float32(first[o, i])
            if rounded:
                part = np.rint(delay[o, i]) - np.float32(first[o, i])
            g0, g1 = gtaps[o, i, 0], gtaps[o, i, 1]
            gweight[o, i] = g0 * (np.float32(1) - part) + g1 * part
            gdelay[o, i] = weight[o, i] * (g1 - g0)


@inlined
def _bumps(e, delay, start, number, inverse, half):
    """exp(-(start + k - delay)^2 / (2 width^2)) for k < number, from two exponentials; their sum.

    `inverse` is 1 / width^2 and `half` exp(-inverse / 2).
    """
    distance = start - delay
    # outwards from the tap that is nearest: from afar, the first would be 0
    middle = min(max(np.int64(np.rint(-distance)), 0), number - 1)
    near = distance + middle
    peak, grow = exp(-0.5 * near * near * inverse), exp(-near * inverse)
    e[U(middle)] = peak
    total = peak
    value, ratio = peak, half * grow
    for k in range(middle + 1, number):
        value *= ratio
        ratio *= half * half
        e[U(k)] = value
        total += value
    value, ratio = peak, half / grow
    for k in range(middle - 1, -1, -1):
        value *= ratio
        ratio *= half * half
        e[U(k)] = value
        total += value
    return total + EPSILON


@inlined
def _first(delay, number, reach, longest):
    return max(min(np.int64(ceil(_lag(delay, longest) - reach)), longest + 1 - number), 0)


@Kernel
def gaussian_taps(table, low, high):
    weight, delay = matrix(table, 0, np.float32), matrix(table, 1, np.float32)
    first, taps = matrix(table, 2, np.int32), cube(table, 3, np.float32)
    longest, number, reach, width = integer(table, 4), integer(table, 5), real(table, 6), real(table, 7)
    e = np.zeros(taps.shape[2])
    inverse = 1.0 / (width * width)
    half = exp(-0.5 * inverse)
    for o in range(low, high):
        for i in range(weight.shape[1]):
            start = _first(delay[o, i], number, reach, longest)
            first[o, i] = start
            scale = weight[o, i] / _bumps(e, np.float64(delay[o, i]), start, number, inverse, half)
            for k in range(taps.shape[2]):
                taps[U(o), U(i), U(k)] = scale * e[U(k)]


@Kernel
def gaussian_gradients(table, low, high):
    weight, delay = matrix(table, 0, np.float32), matrix(table, 1, np.float32)
    first, gtaps = matrix(table, 2, np.int32), cube(table, 3, np.float32)
    gweight, gdelay = matrix(table, 4, np.float32), matrix(table, 5, np.float32)
    number, width = integer(table, 6), real(table, 7)
    e = np.empty(number)
    inverse = 1.0 / (width * width)
    half = exp(-0.5 * inverse)
    for o in range(low, high):
        for i in range(weight.shape[1]):
            d, start = np.float64(delay[o, i]), first[o, i]
            total = _bumps(e, d, start, number, inverse, half)
            along, slope, slope_along = 0.0, 0.0, 0.0
            for k in range(number):
                g, away = np.float64(gtaps[U(o), U(i), U(k)]), (start + k - d) * e[U(k)]
                along += e[U(k)] * g
                slope += away
                slope_along += away * g
            along /= total
            gweight[o, i] = along
            gdelay[o, i] = weight[o, i] * (slope_along - along * slope) / total * inverse


@Kernel
def count(table, low, high):
    """How many spikes each input has in a chunk, from the bits [steps samples, words]; pointer[1:] begins at zero."""
    words, pointer = matrix(table, 0, np.uint64), vector(table, 1, np.int64)
    inputs, samples, chunk = integer(table, 2), integer(table, 3), integer(table, 4)
    for c in range(low, high):
        for t in range(words.shape[0] // samples):
            for b in range(c * chunk, min(c * chunk + chunk, samples)):
                for w in range(words.shape[1]):
                    word = words[t * samples + b, w]
                    while word:
                        pointer[1 + c * inputs + 64 * w + lowest(word)] += 1
                        word &= word - np.uint64(1)


@Kernel
def sort(table, low, high):
    """The codes, and the values where there are any, of all spikes."""
    words, pointer, codes = matrix(table, 0, np.uint64), vector(table, 1, np.int64), vector(table, 2, np.int32)
    x, values = matrix(table, 3, np.float32), vector(table, 4, np.float32)
    inputs, samples, chunk, length = integer(table, 5), integer(table, 6), integer(table, 7), integer(table, 8)
    weighted = values.size > 0
    at = np.empty(inputs, np.int64)
    for c in range(low, high):
        at[:] = pointer[c * inputs : (c + 1) * inputs]
        for t in range(words.shape[0] // samples):
            for b in range(c * chunk, min(c * chunk + chunk, samples)):
                row = t * samples + b
                for w in range(words.shape[1]):
                    word = words[row, w]
                    while word:
                        i = 64 * w + lowest(word)
                        codes[at[i]] = (b - c * chunk) * length + t
                        if weighted:
                            values[at[i]] = x[row, i]
                        at[i] += 1
                        word &= word - np.uint64(1)


@inlined
def _scatter(lanes, line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n):
    if values.size:
        if lanes == 2:
            v.weighted_scatter_2(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
        elif lanes == 4:
            v.weighted_scatter_4(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
        elif lanes == 8:
            v.weighted_scatter_8(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
        else:
            v.weighted_scatter_16(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    elif lanes == 2:
        v.scatter_2(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    elif lanes == 4:
        v.scatter_4(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    elif lanes == 8:
        v.scatter_8(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    else:
        v.scatter_16(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)


@inlined
def _gather(lanes, line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n):
    if values.size:
        if lanes == 2:
            v.weighted_gather_2(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
        elif lanes == 4:
            v.weighted_gather_4(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
        elif lanes == 8:
            v.weighted_gather_8(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
        else:
            v.weighted_gather_16(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    elif lanes == 2:
        v.gather_2(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    elif lanes == 4:
        v.gather_4(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    elif lanes == 8:
        v.gather_8(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)
    else:
        v.gather_16(line, base, steps, first, taps, synapse, inputs, width, k, codes, values, at, n)


@Kernel
def scatter(table, low, high):
    """Output of all steps: a block is some outputs of a chunk."""
    first, taps = vector(table, 0, np.int32), vector(table, 1, np.float32)
    pointer, codes, values = vector(table, 2, np.int64), vector(table, 3, np.int32), vector(table, 4, np.float32)
    y = cube(table, 5, np.float32)
    steps, lead, width, lanes = integer(table, 6), integer(table, 7), integer(table, 8), integer(table, 9)
    chunk, units, inputs = integer(table, 10), integer(table, 11), integer(table, 12)
    samples = y.shape[1]
    chunks = -(-samples // chunk)
    line = np.empty(chunk * units * steps, np.float32)
    for block in range(low, high):
        o0, c = block // chunks * units, block % chunks
        some = min(units, y.shape[2] - o0)
        line[:] = 0
        for i in range(inputs):
            at = pointer[c * inputs + i]
            n = pointer[c * inputs + i + 1] - at
            if n:
                for o in range(0, some, v.GROUP):
                    base, synapse = o * steps, (o0 + o) * inputs + i
                    for k in range(0, width, lanes):
                        _scatter(
                            *(lanes, line, base, steps, first, taps, synapse, inputs, width, k),
                            *(codes, values, at, n),
                        )
        for t in range(y.shape[0]):
            for b in range(min(chunk, samples - c * chunk)):
                for o in range(some):
                    y[U(t), U(c * chunk + b), U(o0 + o)] = line[U((b * units + o) * steps + lead + t)]


@Kernel
def gather(table, low, high):
    """Gradients of all taps: a block is some outputs and some inputs."""
    first, gtaps = vector(table, 0, np.int32), vector(table, 1, np.float32)
    pointer, codes, values = vector(table, 2, np.int64), vector(table, 3, np.int32), vector(table, 4, np.float32)
    gy = cube(table, 5, np.float32)
    steps, lead, width, lanes = integer(table, 6), integer(table, 7), integer(table, 8), integer(table, 9)
    chunk, units, inputs, parts = integer(table, 10), integer(table, 11), integer(table, 12), integer(table, 13)
    samples = gy.shape[1]
    line = np.zeros(chunk * units * steps, np.float32)  # where there are no steps it stays zero
    for block in range(low, high):
        o0, part = block // parts * units, block % parts
        i0, i1 = inputs * part // parts, inputs * (part + 1) // parts
        some = min(units, gy.shape[2] - o0)
        for o in range(o0, min(o0 + units, first.size // inputs)):
            gtaps[(o * inputs + i0) * width : (o * inputs + i1) * width] = 0
        for c in range(-(-samples // chunk)):
            for t in range(gy.shape[0]):
                for b in range(min(chunk, samples - c * chunk)):
                    for o in range(some):
                        line[U((b * units + o) * steps + lead + t)] = gy[U(t), U(c * chunk + b), U(o0 + o)]
            for i in range(i0, i1):
                at = pointer[c * inputs + i]
                n = pointer[c * inputs + i + 1] - at
                if n:
                    for o in range(0, some, v.GROUP):
                        base, synapse = o * steps, (o0 + o) * inputs + i
                        for k in range(0, width, lanes):
                            _gather(
                                *(lanes, line, base, steps, first, gtaps, synapse, inputs, width, k),
                                *(codes, values, at, n),
                            )
