"""The recurrent loop on the CPU: no Python between its steps, and nobody waits for anybody else's samples.

A chunk of samples goes through all steps on one thread. Each step adds up the rows of the weights whose neurons fired, or
multiplies where many did, and then calls the neuron's own kernel, on a table that is written anew for the step.
"""

from functools import cache
from typing import Any

import numpy as np

from ranvier.ops.native import Kernel, call, cube, inlined, integer, matrix, real, vector
from ranvier.ops.recurrent_scan.vectors import LANES, add_rows, lowest, mask, multiply_add, ones

_BLOCK = 512  # neurons in a block of a neuron's kernel


@inlined
def _fill(table, slots, t, sample, neurons):
    """Write the arguments of a neuron's kernel for step t and the samples from `sample` on."""
    for i in range(table.size):
        table[i] = slots[i, 0] + t * slots[i, 1] + sample * slots[i, 2]
    table[1] = neurons


@inlined
def _mark(z, r, words):
    """Write as bits which of z[r] are not 0; how many."""
    width, count, word = z.shape[1], 0, 0
    for j in range(0, width - LANES + 1, LANES):
        m = mask(z, r, j)
        words[word] = m
        count += ones(m)
        word += 1
    if width % LANES != 0:
        m = 0
        for j in range(width - width % LANES, width):
            if z[r, j] != 0:
                m |= 1 << (j % LANES)
        words[word] = m
        count += ones(m)
    return count


@inlined
def _list(z, r, words, places, values):
    """Where the bits of a row are, and what z[r] has there; whether that is anything but ones."""
    n, graded = 0, 0
    for word in range(words.size):
        m = np.int64(words[word])
        while m != 0:
            i = word * LANES + lowest(m)
            m &= m - 1
            places[n], values[n] = i, z[r, i]
            graded |= z[r, i] != 1
            n += 1
    return n, graded


@cache
def forward(number: Any) -> Kernel:
    """Currents and spikes of all steps, and in bits what fired before each."""

    def recurrent_forward(table, low, high):
        x = cube(table, 0, number)
        weight = matrix(table, 1, number)  # from, to
        bias = vector(table, 2, number)
        first = matrix(table, 3, number)  # what the neurons gave out before step 0
        currents = cube(table, 4, number)
        spikes = cube(table, 5, number)
        bits = cube(table, 6, np.uint16)
        graded = matrix(table, 7, np.uint8)
        active = vector(table, 8, np.int64)
        slots = matrix(table, 9, np.int64)
        kernel, samples, rows, features = integer(table, 10), integer(table, 11), integer(table, 12), integer(table, 13)
        dense, keep = real(table, 14), integer(table, 15)
        steps, width = x.shape[0], x.shape[2]
        arguments = np.empty(slots.shape[0], np.int64)
        for chunk in range(low, high):
            begin = chunk * samples
            end = min(begin + samples, x.shape[1] // rows)
            r0, r1 = begin * rows, end * rows
            places, values = np.empty(width, np.int32), np.empty(width, number)
            neurons = (end - begin) * features
            total = 0
            for t in range(steps):
                before = first if t == 0 else spikes[t - 1]
                now = t if keep else 0
                current, given, words = currents[now], x[t], bits[now]
                count = 0
                for r in range(r0, r1):
                    count += _mark(before, r, words[r])
                    row, drive = current[r], given[r]
                    for j in range(width):
                        row[j] = drive[j] + bias[j]
                total += count
                many = count > dense * ((r1 - r0) * width)
                for r in range(r0, r1):
                    if not many or keep:
                        n, other = _list(before, r, words[r], places, values)
                        graded[now, r] = other
                        if not many:
                            add_rows(current, r, weight, places, values, n, 0, width)
                if many:
                    multiply_add(current, before, weight, r0, r1)
                _fill(arguments, slots, t, begin, neurons)
                call(kernel, arguments.ctypes.data, 0, (neurons + _BLOCK - 1) // _BLOCK)
            active[chunk] = total

    return Kernel(recurrent_forward)


@cache
def backward(number: Any) -> Kernel:
    """Gradients of the currents of all steps, from the last to the first; sums those of parameters."""

    def recurrent_backward(table, low, high):
        given = cube(table, 0, number)  # gradients of the spikes; none has no steps
        weight = matrix(table, 1, number)  # to, from
        incoming = matrix(table, 2, number)  # room for the whole gradient of one step's spikes
        currents = cube(table, 3, number)  # gradients of the currents
        fresh = cube(table, 4, number)  # gradients of parameters in one step
        sums = cube(table, 5, number)
        slots = matrix(table, 6, np.int64)
        kernel, samples, rows, features = integer(table, 7), integer(table, 8), integer(table, 9), integer(table, 10)
        temporal = integer(table, 11)
        steps = currents.shape[0]
        arguments = np.empty(slots.shape[0], np.int64)
        for chunk in range(low, high):
            begin = chunk * samples
            end = min(begin + samples, currents.shape[1] // rows)
            r0, r1 = begin * rows, end * rows
            neurons = (end - begin) * features
            for back in range(steps):
                t = steps - 1 - back
                for r in range(r0, r1):
                    into = incoming[r]
                    if given.shape[0] > 0:
                        step = given[t, r]
                        for j in range(into.size):
                            into[j] = step[j]
                    else:
                        into[:] = 0
                if temporal and back > 0:
                    multiply_add(incoming, currents[t + 1], weight, r0, r1)
                _fill(arguments, slots, t, begin, neurons)
                call(kernel, arguments.ctypes.data, 0, (neurons + _BLOCK - 1) // _BLOCK)
                for p in range(sums.shape[0]):
                    for r in range(r0, r1):
                        into, step = sums[p, r], fresh[p, r]
                        for j in range(into.size):
                            into[j] += step[j]

    return Kernel(recurrent_backward)


_SHARE = 64  # rows whose gradients stay in a cache while all weights take from them


@cache
def weight_gradient(number: Any) -> Kernel:
    """The weights' gradient: what the currents' gradients sum to over the spikes. Blocks are of outputs."""

    def recurrent_weight_gradient(table, low, high):
        gradients = matrix(table, 0, number)  # the rows of all steps, one below the other
        first = matrix(table, 1, number)
        spikes = matrix(table, 2, number)
        bits = matrix(table, 3, np.uint16)
        graded = vector(table, 4, np.uint8)
        found = matrix(table, 5, number)  # from, to
        block = integer(table, 6)
        width, rows = found.shape[0], first.shape[0]
        counts = np.empty(width, np.int64)
        places, values = np.empty((width, _SHARE), np.int32), np.empty((width, _SHARE), number)
        plain = np.ones(_SHARE, number)
        for number_of_block in range(low, high):
            j0 = number_of_block * block
            j1 = min(j0 + block, width)
            for i in range(width):
                found[i, j0:j1] = 0
            for q0 in range(0, gradients.shape[0], _SHARE):
                counts[:] = 0
                other = 0
                for q in range(q0, min(q0 + _SHARE, gradients.shape[0])):
                    other |= graded[q]
                    for word in range(bits.shape[1]):
                        m = np.int64(bits[q, word])
                        while m != 0:
                            i = word * LANES + lowest(m)
                            m &= m - 1
                            places[i, counts[i]] = q
                            if graded[q] != 0:
                                values[i, counts[i]] = first[q, i] if q < rows else spikes[q - rows, i]
                            else:
                                values[i, counts[i]] = 1
                            counts[i] += 1
                for i in range(width):
                    if counts[i] > 0:
                        add_rows(found, i, gradients, places[i], values[i] if other else plain, counts[i], j0, j1)

    return Kernel(recurrent_weight_gradient)
