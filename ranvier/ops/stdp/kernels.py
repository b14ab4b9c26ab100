"""Plasticity at events: what a spike changes, on traces that nothing touches between events.

A trace is kept in units of a clock that falls as it does: a value v of step t stands there as v exp((t - base) / tau), and
reads as that times exp(-(t - base) / tau). So one number a step brings all traces up to date, and a vector of them
is read without having been written. Before the numbers grow too large the base moves on.

`numbers` holds, in the weights' dtype: a_plus, a_minus, a3_plus, a3_minus, low, high, nearest, soft. `clock` has a row for
each of the traces r1, o1, r2, o2: its base, its tau, and how far it has fallen at the current step.
"""

import math

import numpy as np

from ranvier.ops.native import inlined

_FAR = 40.0
"""Time constants after which a base moves on: exp(40) keeps its distance from float32's largest number."""
_GONE = 1e-30
"""A trace below which it is 0, before numbers are too small to compute with quickly."""
_SCATTER = 24
"""A column of weights takes as long alone as this many beside each other."""


@inlined
def started(taus):
    """Clocks whose traces are those after the step before the first."""
    clock = np.empty((taus.size, 3))
    for k in range(taus.size):
        clock[k, 0], clock[k, 1], clock[k, 2] = -1.0, taus[k], 1.0
    return clock


@inlined
def tick(clock, k, t, trace):
    """Set clock k to step t, for jumps to follow; whether its base has moved on, by which traces may have become 0."""
    if t - clock[k, 0] > _FAR * clock[k, 1]:
        rebased(clock, k, t, trace)
        return True
    read(clock, k, t)
    return False


@inlined
def read(clock, k, t):
    """Set clock k to step t, for reading alone."""
    clock[k, 2] = math.exp(-(t - clock[k, 0]) / clock[k, 1])


@inlined
def rebased(clock, k, t, trace):
    """Write the traces as they are at step t."""
    fall = math.exp(-(t - clock[k, 0]) / clock[k, 1])
    for i in range(trace.size):
        value = trace[i] * fall
        trace[i] = value if value > _GONE else 0.0
    clock[k, 0], clock[k, 2] = t, 1.0


@inlined
def jump(clock, k, trace, i, nearest):
    """A spike of neuron i at the clock's step."""
    rise = 1.0 / clock[k, 2]
    trace[i] = rise if nearest else trace[i] + rise


@inlined
def with_trace(trace, touched):
    """Write the neurons that have a trace to `touched`; how many these are."""
    known = 0
    for i in range(trace.size):
        if trace[i] != 0:
            touched[known] = i
            known += 1
    return known


@inlined
def add_row(row, current):
    for j in range(row.size):
        current[j] += row[j]


@inlined
def at_pre(row, trace, scratch, soft):
    """w -= F scratch[0] trace for a row of synapses; scratch also holds the bounds."""
    scale, low, high = scratch[0], scratch[1], scratch[2]
    if soft:
        if scale >= 0:
            for j in range(row.size):
                w = row[j]
                w -= scale * trace[j] * (w - low)
                w = low if w < low else w
                row[j] = high if w > high else w
        else:
            for j in range(row.size):
                w = row[j]
                w -= scale * trace[j] * (high - w)
                w = low if w < low else w
                row[j] = high if w > high else w
    else:
        for j in range(row.size):
            w = row[j] - scale * trace[j]
            w = low if w < low else w
            row[j] = high if w > high else w


@inlined
def _columns(row, fired, factor, count, scratch, soft):
    """w += F scratch[0] factor at the synapses of a row that lead to the `count` neurons in `fired`."""
    scale, low, high = scratch[0], scratch[1], scratch[2]
    grows = factor[fired[0]] >= 0
    for k in range(count):
        j = fired[k]
        w = row[j]
        change = scale * factor[j]
        if soft:
            change *= high - w if grows else w - low
        w += change
        w = low if w < low else w
        row[j] = high if w > high else w


@inlined
def _masked(row, factor, mask, scratch, soft, grows):
    """As `_columns`, for all synapses of a row beside each other."""
    scale, low, high = scratch[0], scratch[1], scratch[2]
    if soft:
        for j in range(row.size):
            before = row[j]
            w = before + scale * factor[j] * (high - before if grows else before - low)
            w = low if w < low else w
            w = high if w > high else w
            row[j] = w if mask[j] > 0 else before
    else:
        for j in range(row.size):
            before = row[j]
            w = before + scale * factor[j]
            w = low if w < low else w
            w = high if w > high else w
            row[j] = w if mask[j] > 0 else before


@inlined
def learn_at_pre(t, fired, count, weight, r1, r2, o1, clock, numbers, touched, known, scratch):
    """The step's presynaptic spikes; the number of neurons in `touched` that have a trace."""
    nearest, soft = numbers[6] != 0, numbers[7] != 0
    if tick(clock, 0, t, r1):
        known = with_trace(r1, touched)
    read(clock, 1, t)
    slow = numbers[2] != 0 or numbers[3] != 0
    if slow:
        read(clock, 2, t)
    scratch[1], scratch[2] = numbers[4], numbers[5]
    for k in range(count):
        i = fired[k]
        if numbers[1] != 0 or numbers[3] != 0:
            factor = numbers[1] + numbers[3] * r2[i] * clock[2, 2] if slow else numbers[1]
            scratch[0] = factor * clock[1, 2]
            at_pre(weight[i], o1, scratch, soft)
        if r1[i] == 0:
            touched[known] = i
            known += 1
        jump(clock, 0, r1, i, nearest)
    return known


@inlined
def learn_at_post(t, fired, count, weight, r1, o1, o2, clock, numbers, touched, known, factor, mask, scratch):
    """The step's postsynaptic spikes; `factor` and `mask` are room for a number a neuron, `mask` 0."""
    nearest, soft = numbers[6] != 0, numbers[7] != 0
    slow = numbers[2] != 0 or numbers[3] != 0
    if count and (numbers[0] != 0 or numbers[2] != 0):
        read(clock, 0, t)
        if slow:
            read(clock, 3, t)
        for k in range(count):
            j = fired[k]
            factor[j] = numbers[0] + numbers[2] * o2[j] * clock[3, 2] if slow else numbers[0]
            mask[j] = 1
        scratch[1], scratch[2] = numbers[4], numbers[5]
        grows, many = numbers[0] + numbers[2] >= 0, count * _SCATTER >= factor.size
        for k in range(known):
            i = touched[k]
            scratch[0] = r1[i] * clock[0, 2]
            if many:
                _masked(weight[i], factor, mask, scratch, soft, grows)
            else:
                _columns(weight[i], fired, factor, count, scratch, soft)
        for k in range(count):
            factor[fired[k]] = 0
            mask[fired[k]] = 0
    if count:
        tick(clock, 1, t, o1)
        for k in range(count):
            jump(clock, 1, o1, fired[k], nearest)
        if slow:
            tick(clock, 3, t, o2)
            for k in range(count):
                jump(clock, 3, o2, fired[k], nearest)


@inlined
def learn_slowly(t, fired, count, r2, clock, numbers):
    """The slow trace of the step's presynaptic spikes, which the step itself does not see."""
    if count and (numbers[2] != 0 or numbers[3] != 0):
        tick(clock, 2, t, r2)
        for k in range(count):
            jump(clock, 2, r2, fired[k], numbers[6] != 0)


@inlined
def distinct(index, begin, end, seen, t, fired):
    """Write the neurons among index[begin:end] to `fired`, each once; how many these are."""
    count = 0
    for k in range(begin, end):
        i = np.uint32(index[k])
        if seen[i] != t:
            seen[i] = t
            fired[count] = i
            count += 1
    return count
