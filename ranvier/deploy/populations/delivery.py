"""The loop of a simulation: spikes delivered and neurons advanced, block by block, for one minimal delay at a time.

A block of neurons is worked on for a whole window of steps, no longer than the shortest delay, so that its states stay in the
nearest cache and threads meet once a window. What blocks have fired in a window is then put together in the record.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ranvier.core.random import ROUNDS
from ranvier.ops.native import Kernel, call, inlined, matrix, pointer, vector

(KERNEL, TABLE, POPULATION, PLACE, LOW, HIGH, FIRST, BUNDLE, BUNDLES, INPUT, INPUTS, LIST, COUNT, STEPS, DRAWS) = range(
    15
)
"""Words of a block. LIST has who fired in the window, of which STEPS [window + 1] says where each step's begin."""
SOURCE, DELAY, ONTO, WEIGHTS, EACH, POINTERS, SOURCES, TARGETS, BASES = range(9)
"""Words of a bundle: synapses of one projection that have one delay."""
INPUT_ONTO, AMOUNTS, THRESHOLDS, GUIDE, SEED_LOW, SEED_HIGH, STREAM, SIZE = range(8)
"""Words of an external input."""
OFFSETS, INDEX, CAPACITY, BLOCK, BLOCKS = range(5)
"""Words of a population: its record, and its blocks."""
STEP, AT, WINDOW, DONE, THREADS, TAKE, PARALLEL, JOB, CLOCK, CLOCK_KIND, UNTIL = range(11)
"""Words of the control: step of time and place in the record where the window begins, its length, steps done so far, the
threads and what calls them, a clock, and where it is kept until when one thread works alone."""


@intrinsic
def _call_team(typing, address, function, job, threads):
    """Call GOMP_parallel, at an address: every thread of the team calls function(job)."""

    def generate(context, builder, signature, arguments):
        byte, whole = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, byte, whole, whole])
        parallel = builder.inttoptr(arguments[0], kind.as_pointer())
        given = [builder.inttoptr(arguments[i], byte) for i in (1, 2)]
        builder.call(parallel, [*given, builder.trunc(arguments[3], whole), whole(0)])

    return types.void(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def _call_clock(typing, address, kind, out):
    """Call clock_gettime, at an address: seconds and nanoseconds to out."""

    def generate(context, builder, signature, arguments):
        whole, words = ir.IntType(32), ir.IntType(64).as_pointer()
        clock = builder.inttoptr(arguments[0], ir.FunctionType(whole, [whole, words]).as_pointer())
        builder.call(clock, [builder.trunc(arguments[1], whole), builder.inttoptr(arguments[2], words)])

    return types.void(types.int64, types.int64, types.int64), generate


@numba.extending.register_jitable
def _array(address, size, dtype):
    return numba.carray(pointer(address), (size,), dtype)


@inlined
def _deliver(bundle, place, populations, at):
    """Add the weights of the spikes that arrive now to the neurons of a block."""
    source = populations[bundle[SOURCE]]
    offsets = _array(source[OFFSETS], 1 << 40, np.int64)
    then = at - bundle[DELAY]
    begin, end = offsets[then], offsets[then + 1]
    if begin == end:
        return
    sources = bundle[SOURCES]
    fired = _array(source[INDEX], 1 << 40, np.uint32)
    starts = _array(bundle[POINTERS] + 4 * place * (sources + 1), sources + 1, np.uint32)
    base = _array(bundle[BASES], 1 << 40, np.int64)[place]
    targets = _array(bundle[TARGETS] + 4 * base, 1 << 40, np.uint32)
    onto = _array(bundle[ONTO], 1 << 40, np.float32)
    if bundle[EACH]:
        weights = _array(bundle[WEIGHTS] + 4 * base, 1 << 40, np.float32)
        for k in range(begin, end):
            i = fired[k]
            for q in range(starts[i], starts[i + np.uint32(1)]):
                onto[targets[q]] += weights[q]
    else:
        weight = _array(bundle[WEIGHTS], 1, np.float32)[0]
        for k in range(begin, end):
            i = fired[k]
            for q in range(starts[i], starts[i + np.uint32(1)]):
                onto[targets[q]] += weight


@inlined
def _words(given, first, count, quarter, out):
    """Four random words for each of some neurons, philox of (neuron, stream, four steps): out [4 count]."""
    low, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    m0, m1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
    for j in range(count):
        c0, c1, c2, c3 = np.uint64(first + j), np.uint64(given[STREAM]), np.uint64(quarter), np.uint64(0)
        k0, k1 = np.uint64(given[SEED_LOW]), np.uint64(given[SEED_HIGH])
        for _ in range(ROUNDS):
            p0, p1 = c0 * m0, c2 * m1
            c0, c1, c2, c3 = (p1 >> low) ^ c1 ^ k0, p1 & mask, (p0 >> low) ^ c3 ^ k1, p0 & mask
            k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
        out[j], out[count + j] = np.uint32(c0), np.uint32(c1)
        out[2 * count + j], out[3 * count + j] = np.uint32(c2), np.uint32(c3)


@inlined
def _arrive(given, block, step, fresh, drawn):
    """Poisson input: for each neuron as many weights as there are thresholds below its random word."""
    count, low = block[HIGH] - block[LOW], block[LOW]
    if fresh or step % 4 == 0:
        _words(given, block[FIRST], count, step // 4, drawn)
    thresholds = _array(given[THRESHOLDS], 1 << 40, np.uint32)
    guide = _array(given[GUIDE], 256, np.int32)
    onto = _array(given[INPUT_ONTO], 1 << 40, np.float32)
    amounts = _array(given[AMOUNTS], 1 << 40, np.float32)
    row = (step % 4) * count
    for j in range(count):
        word = drawn[row + j]
        k = guide[word >> np.uint32(24)]
        while word > thresholds[k]:
            k += 1
        onto[low + j] += amounts[k]


@inlined
def _work(table, low, high):
    """A window of the blocks low to high - 1. Arguments: blocks, bundles, inputs, populations, control."""
    blocks, bundles, inputs = matrix(table, 0, np.int64), matrix(table, 1, np.int64), matrix(table, 2, np.int64)
    populations, control = matrix(table, 3, np.int64), vector(table, 4, np.int64)
    window = control[WINDOW]
    for b in range(low, high):
        block = blocks[b]
        own, count = _array(block[TABLE], 2, np.int64), _array(block[COUNT], 1, np.int64)
        steps = _array(block[STEPS], window + 1, np.int64)
        drawn = _array(block[DRAWS], 1 << 40, np.uint32)
        size = 4 * (block[HIGH] - block[LOW])
        vectors, last = block[LOW] // 16, (block[HIGH] + 15) // 16
        count[0] = steps[0] = 0
        for s in range(window):
            for k in range(block[INPUT], block[INPUTS]):
                own_draws = drawn[(k - block[INPUT]) * size :]
                _arrive(inputs[k], block, control[STEP] + s, s == 0, own_draws)
            for k in range(block[BUNDLE], block[BUNDLES]):
                _deliver(bundles[k], block[PLACE], populations, control[AT] + s)
            own[1] = control[STEP] + s
            call(block[KERNEL], block[TABLE], vectors, last)
            steps[s + 1] = count[0]


def _window(table, low, high):
    _work(table, low, high)


@inlined
def _collect(blocks, populations, control):
    """Put what the blocks have fired into the record, step by step and in the order of neurons."""
    window, at = control[WINDOW], control[AT]
    for p in range(populations.shape[0]):
        population = populations[p]
        offsets, index = _array(population[OFFSETS], 1 << 40, np.int64), _array(population[INDEX], 1 << 40, np.int32)
        n = offsets[at]
        for s in range(window):
            for b in range(population[BLOCK], population[BLOCKS]):
                steps = _array(blocks[b, STEPS], window + 1, np.int64)
                fired = _array(blocks[b, LIST], 1 << 40, np.int32)
                for k in range(steps[s], steps[s + 1]):
                    index[n] = fired[k]
                    n += 1
            offsets[at + s + 1] = n


@inlined
def _now(control, time):
    """Nanoseconds."""
    _call_clock(control[CLOCK], control[CLOCK_KIND], time.ctypes.data)
    return time[0] * 1_000_000_000 + time[1]


@inlined
def _together(table, blocks, control, learnt, time):
    """A window by as many threads as pay. `learnt`: windows timed alone, ns of one, ns lost to the team, its windows.

    On a busy machine threads that wait for each other lose whole time slices. So a thread knows what a window takes it alone,
    lets the team go on as long as that is faster, and after a loss works alone for fifty times as long.
    """
    until = _array(control[UNTIL], 1, np.int64)
    began = _now(control, time)
    alone = learnt[0] < 8 or began < until[0]
    if alone:
        _work(table, 0, blocks)
    else:
        job = _array(control[JOB], 5, np.int64)
        job[4] = 0
        _call_team(control[PARALLEL], control[TAKE], control[JOB], control[THREADS])
    ended = _now(control, time)
    took = ended - began
    if alone:
        learnt[0] += 1
        # an outlier is another program's doing, which would make the team look good
        learnt[1] = min(learnt[1], took) if learnt[0] <= 8 else (7 * learnt[1] + min(took, 2 * learnt[1])) // 8
        return
    learnt[2] = max(0, learnt[2] + took - learnt[1])
    learnt[3] += 1
    if learnt[2] > 2 * learnt[1]:
        until[0] = ended + 50 * learnt[2]
        learnt[2] = 0
    elif learnt[3] % 256 == 0:
        learnt[0] = 4  # how busy the network is may have changed


def _simulate(table, low, high):
    """Windows of at most `low` steps until `high` steps are done or a record may be full."""
    blocks, populations, control = matrix(table, 0, np.int64), matrix(table, 3, np.int64), vector(table, 4, np.int64)
    learnt, time = np.array([0, 1 << 60, 0, 0]), np.zeros(2, np.int64)
    while control[DONE] < high:
        control[WINDOW] = window = min(low, high - control[DONE])
        for p in range(populations.shape[0]):
            offsets = _array(populations[p, OFFSETS], 1 << 40, np.int64)
            neurons = 0
            for b in range(populations[p, BLOCK], populations[p, BLOCKS]):
                neurons += blocks[b, HIGH] - blocks[b, LOW]
            if offsets[control[AT]] + neurons * window > populations[p, CAPACITY]:
                return
        if control[THREADS] > 1:
            _together(table, blocks.shape[0], control, learnt, time)
        else:
            _work(table, 0, blocks.shape[0])
        _collect(blocks, populations, control)
        control[STEP] += window
        control[AT] += window
        control[DONE] += window


def _sort(table, low, high):
    """Synapses by block and source, in their order: arguments source, target, block bounds, number sorted, starts, bases, order.

    `starts` [blocks, sources + 1] counts from each block's base.
    """
    source, target, place = vector(table, 0, np.int64), vector(table, 1, np.int64), vector(table, 2, np.int32)
    starts, bases, order = matrix(table, 3, np.int32), vector(table, 4, np.int64), vector(table, 5, np.int64)
    sources = starts.shape[1] - 1
    for k in range(source.shape[0]):
        starts[place[target[k]], source[k] + 1] += np.int32(1)
    base = np.int64(0)
    for b in range(starts.shape[0]):
        for i in range(sources):
            starts[b, i + 1] += starts[b, i]
        bases[b] = base
        base += np.int64(starts[b, sources])
    for k in range(source.shape[0]):
        b = place[target[k]]
        order[bases[b] + starts[b, source[k]]] = k
        starts[b, source[k]] += np.int32(1)
    for b in range(starts.shape[0]):  # each start has moved to the next
        for i in range(sources, 0, -1):
            starts[b, i] = starts[b, i - 1]
        starts[b, 0] = 0


window, simulate, sort = Kernel(_window), Kernel(_simulate), Kernel(_sort)
