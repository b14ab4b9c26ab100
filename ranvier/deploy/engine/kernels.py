"""The engine's loop: a list of operations, carried out step after step in one native call.

Signals are what flows between operations: `value` [N], the numbers of those that are not 0 in `index`, and `mark`: how many
these are, and whether all of them are exactly 1. An operation is a row of whole numbers: its code, sizes and addresses.
"""

import numba
import numpy as np

from ranvier.compile.llvm_operations import LANES
from ranvier.deploy.engine.vectors import add, add_eight, add_four_weighted, add_row, floats, whole, words
from ranvier.ops.native import Kernel, call, inlined, integer, matrix, pointer, vector

FIELDS = 16
"""Words of an operation."""
UNWATCHED = 8
"""Steps for which all neurons of a layer advance before it is looked again which ones are reached."""
FRAME, LIST, FILL, DENSE, SCATTER, MAXIMUM, NEURON, RESTING, ECHO, ARRIVE, TIME_POOL, RELABEL, OUT = range(13)


@inlined
def _list(op):
    """LIST value index mark N: who is not 0."""
    size = op[4]
    value, index, mark = floats(op[1], size), whole(op[2], size + 16), words(op[3], 2)
    n, ones = 0, True
    for i in range(size):
        v = value[i]
        index[n] = i
        n += v != 0
        ones &= (v == 0) | (v == 1)
    mark[0], mark[1] = n, ones


@inlined
def _clear(value, index, mark):
    for k in range(mark[0]):
        value[index[k]] = np.float32(0)
    mark[0], mark[1] = 0, 1


@inlined
def _frame(op, frame):
    """FRAME value index mark N order: a frame of numbers."""
    size = op[4]
    value, index, mark, order = (floats(op[1], size), whole(op[2], size + 16), words(op[3], 2), whole(op[5], size))
    _clear(value, index, mark)
    n, ones = 0, True
    for i in range(size):  # without a branch that is as often wrong as there are spikes
        index[n] = i
        n += frame[i] != 0
    for k in range(n):
        v, s = frame[index[k]], order[index[k]]
        value[s], index[k] = v, s
        ones &= v == 1
    mark[0], mark[1] = n, ones


@inlined
def _events(op, events, begin, end, once):
    """FRAME from events: how many there are at each place; with `once` whether there are any."""
    size = op[4]
    value, index, mark, order = (floats(op[1], size), whole(op[2], size + 16), words(op[3], 2), whole(op[5], size))
    _clear(value, index, mark)
    n, ones = 0, True
    for e in range(begin, end):
        s = order[events[e]]
        if value[s] == 0:
            value[s] = np.float32(1)
            index[n] = s
            n += 1
        elif not once:
            value[s] += np.float32(1)
            ones = False
    mark[0], mark[1] = n, ones


@inlined
def _fill(op):
    """FILL out bias N."""
    size = op[3]
    out, bias = floats(op[1], size), floats(op[2], size)
    for j in range(size):
        out[j] = bias[j]


@inlined
def _dense(op):
    """DENSE value index mark inputs weights N out bias: rows of weights summed; without a bias, onto what is there."""
    inputs, size = op[4], op[6]
    value, index, mark = floats(op[1], inputs), whole(op[2], inputs + 16), words(op[3], 2)
    out, weights, row = op[7], op[5], 4 * size
    if op[8] != 0:
        here, bias = floats(out, size), floats(op[8], size)
        for j in range(size):
            here[j] = bias[j]
    n, k = mark[0], 0
    if mark[1] != 0:
        while k + 8 <= n:
            a, b, c, d = index[k], index[k + 1], index[k + 2], index[k + 3]
            e, f, g, h = index[k + 4], index[k + 5], index[k + 6], index[k + 7]
            add_eight(
                *(out, size, weights + row * a, weights + row * b, weights + row * c, weights + row * d),
                *(weights + row * e, weights + row * f, weights + row * g, weights + row * h),
            )
            k += 8
        while k < n:
            add_row(out, size, weights + row * index[k])
            k += 1
        return
    while k + 4 <= n:
        a, b, c, d = index[k], index[k + 1], index[k + 2], index[k + 3]
        at = weights + row * a, weights + row * b, weights + row * c, weights + row * d
        add_four_weighted(out, size, *at, value[a], value[b], value[c], value[d])
        k += 4
    while k < n:
        add(out, size, weights + row * index[k], value[index[k]])
        k += 1


@inlined
def _touch(touched, vectors, block):
    touched[1 + vectors + block] = 1
    touched[1 + touched[0]] = block
    touched[0] += 1


@inlined
def _scatter(op):
    """SCATTER value index mark inputs channels starts runs weights weight_step out_step out ring head touched vectors.

    Input i is channel i % channels of place i // channels; a place's runs are (first output, first weight, length), and
    each channel moves outputs and weights on by its step. With a `ring` of that many numbers outputs lie in the future.
    `touched`: how many vectors of outputs got something, which, and of each vector whether it did.
    """
    inputs, channels = op[4], op[5]
    value, index, mark = floats(op[1], inputs), whole(op[2], inputs + 16), words(op[3], 2)
    starts = whole(op[6], inputs // channels + 1)
    runs = numba.carray(pointer(op[7]), (1 << 40, 3), np.int32)
    ring, shift, vectors = op[12], 0, op[15]
    if ring > 0:
        shift = words(op[13], 1)[0]
    touched = whole(op[14], 1 + 2 * vectors)
    watched = vectors > 0 and touched[0] >= 0
    for k in range(mark[0]):
        i = index[k]
        v, place, channel = value[i], i // channels, i % channels
        first, move = channel * op[9], channel * op[10]
        for r in range(starts[place], starts[place + 1]):
            o, w, length = np.int64(runs[r, 0]) + move, np.int64(runs[r, 1]) + first, np.int64(runs[r, 2])
            if ring > 0:
                o += shift
                if o >= ring:
                    o -= ring
            add(op[11] + 4 * o, length, op[8] + 4 * w, v)
            if watched:
                for block in range(o // LANES, (o + length - 1) // LANES + 1):
                    if touched[1 + vectors + block] == 0:
                        _touch(touched, vectors, block)


@inlined
def _maximum(op):
    """MAXIMUM value index mark inputs channels starts runs out_value out_index out_mark N: of spikes, whether there is any."""
    inputs, channels, size = op[4], op[5], op[11]
    value, index, mark = floats(op[1], inputs), whole(op[2], inputs + 16), words(op[3], 2)
    starts = whole(op[6], inputs // channels + 1)
    runs = numba.carray(pointer(op[7]), (1 << 40, 3), np.int32)
    out, listed, count = floats(op[8], size), whole(op[9], size + 16), words(op[10], 2)
    _clear(out, listed, count)
    n = 0
    for k in range(mark[0]):
        i = index[k]
        place, channel = i // channels, i % channels
        for r in range(starts[place], starts[place + 1]):
            o = runs[r, 0] + channel
            if out[o] == 0:
                listed[n] = o
                n += 1
            out[o] = max(out[o], value[i])
    count[0], count[1] = n, mark[1]


@inlined
def _neuron(op):
    """NEURON address table vectors mark ones."""
    mark, table = words(op[4], 2), words(op[2], 2)
    mark[0] = 0
    call(op[1], op[2], 0, op[3])
    table[1] += 1
    mark[1] = op[5]


@inlined
def _stay_awake(touched, vectors, active, count):
    for number in range(count):
        block = active[number] // LANES
        if touched[1 + vectors + block] == 0:
            _touch(touched, vectors, block)


@inlined
def _resting(op):
    """RESTING address table vectors mark ones touched stamps N x bias decay point slope v: neurons that rest in silence.

    Only vectors of neurons that got something advance. A silent step is v <- a v + b, so k of them are
    point + exp(k decay) (v - point) + k slope, with decay = log a: what a vector has missed is made good when it is
    touched. One that fired stays awake for a step. `stamps`: the step each vector has reached, then the present one.
    Where many were touched all advance, unwatched for some steps: touched[0] counts them up to 0.
    """
    vectors, size = op[3], op[8]
    mark, table = words(op[4], 2), words(op[2], 3)
    touched, stamps = whole(op[6], 1 + 2 * vectors), words(op[7], vectors + 1)
    x, bias = floats(op[9], size), floats(op[10], size)
    decay, point, slope, v = floats(op[11], size), floats(op[12], size), floats(op[13], size), floats(op[14], size)
    now, awake, every = stamps[vectors], touched[0], 4 * touched[0] > vectors
    mark[0], mark[1] = 0, op[5]
    if awake < 0:
        call(op[1], op[2], 0, vectors)
        x[:] = bias
        touched[0] += 1
        if touched[0] == 0:
            stamps[:vectors] = now + 1
            _stay_awake(touched, vectors, whole(table[2], size), mark[0])
        table[1] += 1
        stamps[vectors] = now + 1
        return
    for i in range(vectors if every else awake):
        block = i if every else touched[1 + i]
        first, last = block * LANES, min((block + 1) * LANES, size)
        missed = now - stamps[block]
        if missed > 0:
            k = np.float32(missed)
            for j in range(first, last):
                v[j] = point[j] + np.exp(k * decay[j]) * (v[j] - point[j]) + k * slope[j]
        stamps[block] = now + 1
        touched[1 + vectors + block] = 0
    touched[0] = 0
    if every:
        call(op[1], op[2], 0, vectors)
        x[:] = bias
        touched[0] = -UNWATCHED
    else:
        for i in range(awake):
            block, before = touched[1 + i], mark[0]
            call(op[1], op[2], block, block + 1)
            for j in range(block * LANES, min((block + 1) * LANES, size)):
                x[j] = bias[j]
            if mark[0] > before:  # the list shrinks in place: never more stay than have been gone through
                _touch(touched, vectors, block)
    table[1] += 1
    stamps[vectors] = now + 1


@inlined
def _echo(op):
    """ECHO value index mark N past delays count slots head out_value out_index out_mark: the input of some steps ago."""
    size, delays, slots = op[4], whole(op[6], op[7]), op[8]
    value = floats(op[1], size)
    past, head = numba.carray(pointer(op[5]), (slots, size), np.float32), words(op[9], 1)
    total = size * op[7]
    out, listed, count = floats(op[10], total), whole(op[11], total + 16), words(op[12], 2)
    row = past[head[0]]
    for i in range(size):
        row[i] = value[i]
    n, ones = 0, True
    for d in range(op[7]):
        row, at = past[(head[0] + slots - delays[d]) % slots], d * size
        for i in range(size):
            v = row[i]
            out[at + i] = v
            listed[n] = at + i
            n += v != 0
            ones &= (v == 0) | (v == 1)
    count[0], count[1] = n, ones
    head[0] = (head[0] + 1) % slots


@inlined
def _arrive(op):
    """ARRIVE ring head N words out bias: what was sent to this step, and the slot emptied for one `words` ahead."""
    size, head = op[3], words(op[2], 1)
    ring, out, bias = floats(op[1], op[4]), floats(op[5], size), floats(op[6], size)
    at = head[0]
    for j in range(size):
        out[j] = ring[at + j] + bias[j]
        ring[at + j] = np.float32(0)
    head[0] = at + size if at + size < op[4] else 0


@inlined
def _time_pool(op):
    """TIME_POOL value index mark N sum phase steps out_value out_index out_mark: whether a mean over `steps` is complete."""
    size, steps = op[4], op[7]
    value, index, mark = floats(op[1], size), whole(op[2], size + 16), words(op[3], 2)
    total, phase = floats(op[5], size), words(op[6], 1)
    for k in range(mark[0]):
        total[index[k]] += value[index[k]]
    phase[0] += 1
    if phase[0] < steps:
        return False
    out, listed, count = floats(op[8], size), whole(op[9], size + 16), words(op[10], 2)
    n, ones, share = 0, True, np.float32(1) / np.float32(steps)
    for i in range(size):
        v = total[i] * share
        out[i] = v
        total[i] = np.float32(0)
        listed[n] = i
        n += v != 0
        ones &= (v == 0) | (v == 1)
    count[0], count[1], phase[0] = n, ones, 0
    return True


@inlined
def _relabel(op):
    """RELABEL value index mark N places factors out_value out_index out_mark: moved to other places, times a factor each."""
    size = op[4]
    value, index, mark = floats(op[1], size), whole(op[2], size + 16), words(op[3], 2)
    places, factors = whole(op[5], size), floats(op[6], size)
    out, listed, count = floats(op[7], size), whole(op[8], size + 16), words(op[9], 2)
    _clear(out, listed, count)
    ones = True
    for k in range(mark[0]):
        i = index[k]
        v = value[i] * factors[i]
        out[places[i]] = v
        listed[k] = places[i]
        ones &= v == 1
    count[0], count[1] = mark[0], ones


def _run(table, low, high):
    """Arguments: operations, steps, frames [T, N] or none, outputs [T', M], starts and numbers of events, `once`, rows done."""
    ops, steps, frames, outputs = (
        matrix(table, 0, np.int64),
        integer(table, 1),
        matrix(table, 2, np.float32),
        matrix(table, 3, np.float32),
    )
    starts, events, once, rows = (
        vector(table, 4, np.int64),
        vector(table, 5, np.int32),
        integer(table, 6),
        vector(table, 7, np.int64),
    )
    for t in range(steps):
        for k in range(ops.shape[0]):
            op = ops[k]
            code = op[0]
            if code == DENSE:
                _dense(op)
            elif code == NEURON:
                _neuron(op)
            elif code == SCATTER:
                _scatter(op)
            elif code == RESTING:
                _resting(op)
            elif code == FILL:
                _fill(op)
            elif code == LIST:
                _list(op)
            elif code == FRAME:
                if starts.shape[0] > 0:
                    _events(op, events, starts[t], starts[t + 1], once)
                else:
                    _frame(op, frames[t])
            elif code == MAXIMUM:
                _maximum(op)
            elif code == ECHO:
                _echo(op)
            elif code == ARRIVE:
                _arrive(op)
            elif code == RELABEL:
                _relabel(op)
            elif code == TIME_POOL:
                if not _time_pool(op):
                    break
            else:
                value, order = floats(op[1], op[3]), whole(op[2], op[3])
                row = outputs[rows[0]]
                for j in range(op[3]):
                    row[j] = value[order[j]]
                rows[0] += 1


run = Kernel(_run)
