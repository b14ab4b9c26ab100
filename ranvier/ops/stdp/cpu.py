"""Plasticity on the CPU: all steps of a sequence in one call, with work only where a spike is; blocks are samples."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.buffers import empty
from ranvier.ops.native import NUMBERS, Kernel, cube, inlined, integer, matrix, vector
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp.kernels import (
    add_row,
    distinct,
    learn_at_post,
    learn_at_pre,
    learn_slowly,
    rebased,
    started,
    tick,
    with_trace,
)
from ranvier.ops.stdp.reference import Neurons, State
from ranvier.ops.stdp.rule import Rule

TRACES = ("pre", "post", "pre_slow", "post_slow")


def stdp(weight: Tensor, pre: Spikes, post: Spikes, state: State, rule: Rule) -> tuple[Tensor, State]:
    """Weights [B, I, O] and traces after the spikes; what is given stays as it is."""
    steps, batch, _ = pre.shape
    learnt, traces = copied(weight), room_for_traces(state, weight)
    kernel = _stdp_kernel(NUMBERS[weight.dtype])
    work = learnt[0].numel() * (len(pre.index) + len(post.index))
    kernel(
        batch,
        work,
        steps,
        pre.pointer,
        pre.index,
        post.pointer,
        post.index,
        learnt,
        *traces.values(),
        numbers(rule, weight.dtype),
        taus(rule),
    )
    return learnt, {name: traces[name] for name in rule.traces}


def layer(x: Spikes, state: State, neurons: Neurons, rule: Rule | None) -> tuple[Tensor, State]:
    """Spikes [T, B, O] and the state after them; what is given stays as it is."""
    steps, batch, _ = x.shape
    given = state["weight"]
    shared = given[:1] if given.stride(0) == 0 else given  # weights that rest may be those of all samples
    weight = shared.contiguous() if rule is None else copied(given)
    traces = room_for_traces(state if rule is not None else {}, given)
    v, z, theta = (state[k].clone(memory_format=torch.contiguous_format) for k in ("v", "z", "theta"))
    out = empty((steps, batch, weight.shape[2]), given.dtype)
    options = (neurons.decay, neurons.threshold, neurons.theta_plus, neurons.inhibition, neurons.single)
    kernel = _layer_kernel(NUMBERS[given.dtype])
    kernel(
        batch,
        weight.shape[2] * (len(x.index) + steps * batch),
        x.pointer,
        x.index,
        weight,
        *traces.values(),
        torch.zeros(8, dtype=given.dtype) if rule is None else numbers(rule, given.dtype),
        torch.ones(4, dtype=torch.float64) if rule is None else taus(rule),
        v,
        z,
        theta,
        torch.tensor(options, dtype=given.dtype),
        torch.tensor([neurons.tau_theta], dtype=torch.float64),
        int(rule is not None),
        out,
    )
    after = {"weight": given if rule is None else weight, "v": v, "z": z, "theta": theta}
    return out, after | ({name: traces[name] for name in rule.traces} if rule is not None else {})


def numbers(rule: Rule, dtype: torch.dtype) -> Tensor:
    """A rule as kernels take it."""
    values = (rule.a_plus, rule.a_minus, rule.a3_plus, rule.a3_minus, rule.low, rule.high, rule.nearest, rule.soft)
    return torch.tensor(values, dtype=dtype)


def taus(rule: Rule) -> Tensor:
    """Its time constants."""
    return torch.tensor((rule.tau_plus, rule.tau_minus, rule.tau_x, rule.tau_y), dtype=torch.float64)


def copied(weight: Tensor) -> Tensor:
    """A copy to write to, in recycled memory."""
    return empty(weight.shape, weight.dtype).copy_(weight)


def room_for_traces(state: State, weight: Tensor) -> State:
    """A copy of all four traces, 0 where there is none."""
    batch, inputs, outputs = weight.shape
    found = {}
    for name, width in zip(TRACES, (inputs, outputs, inputs, outputs), strict=True):
        given = state.get(name)
        found[name] = weight.new_zeros(batch, width) if given is None else given.clone().contiguous()
    return found


@inlined
def _stdp(steps, pre, pre_index, post, post_index, weights, r1s, o1s, r2s, o2s, numbers, taus, low, high):
    batch, inputs, outputs = weights.shape
    seen_pre, seen_post = np.empty(inputs, np.int64), np.empty(outputs, np.int64)
    before, after = np.empty(inputs, np.int64), np.empty(outputs, np.int64)
    touched, factor, mask = np.empty(inputs, np.int64), np.zeros_like(o1s[0]), np.zeros_like(o1s[0])
    scratch = np.empty_like(numbers)
    for b in range(low, high):
        weight, r1, o1, r2, o2 = weights[b], r1s[b], o1s[b], r2s[b], o2s[b]
        clock = started(taus)
        known = with_trace(r1, touched)
        seen_pre[:] = -1
        seen_post[:] = -1
        for t in range(steps):
            row = t * batch + b
            if pre[row] == pre[row + 1] and post[row] == post[row + 1]:
                continue
            count = distinct(pre_index, pre[row], pre[row + 1], seen_pre, t, before)
            arrived = distinct(post_index, post[row], post[row + 1], seen_post, t, after)
            if count:
                known = learn_at_pre(t, before, count, weight, r1, r2, o1, clock, numbers, touched, known, scratch)
            learn_at_post(t, after, arrived, weight, r1, o1, o2, clock, numbers, touched, known, factor, mask, scratch)
            learn_slowly(t, before, count, r2, clock, numbers)
        rebased(clock, 0, steps - 1, r1)
        rebased(clock, 1, steps - 1, o1)
        rebased(clock, 2, steps - 1, r2)
        rebased(clock, 3, steps - 1, o2)


@inlined
def _membranes(v, theta, current, z, options, fall, others, u):
    """u of all neurons, and how many reach their threshold."""
    decay, threshold, inhibition = options[0], options[1], options[3]
    reached = np.int64(0)
    for j in range(v.size):
        h = decay * v[j] + current[j] - inhibition * (others - z[j])
        u[j] = h
        reached += np.int64(h >= threshold + theta[j] * fall)
    return reached


@inlined
def _first(u, theta, options, fall):
    """The neuron furthest above its threshold."""
    best, found = u[0] - theta[0] * fall, 0
    for j in range(1, u.size):
        margin = u[j] - theta[j] * fall
        if margin > best:
            best, found = margin, j
    return found


@inlined
def _layer(x, index, weights, r1s, o1s, r2s, o2s, numbers, taus, vs, zs, thetas, options, slow, learns, out, low, high):
    inputs = weights.shape[1]
    steps, batch, outputs = out.shape
    seen, before, after = np.empty(inputs, np.int64), np.empty(inputs, np.int64), np.empty(outputs, np.int64)
    touched, factor, mask = np.empty(inputs, np.int64), np.zeros_like(vs[0]), np.zeros_like(vs[0])
    scratch, current, u = np.empty_like(options), np.empty_like(vs[0]), np.empty_like(vs[0])
    many = np.zeros_like(numbers)  # spikes of the step before and how far thetas have fallen, in the weights' dtype
    single = options[4] != 0
    change = np.empty_like(numbers)
    for b in range(low, high):
        weight, r1, o1, r2, o2 = weights[b % weights.shape[0]], r1s[b], o1s[b], r2s[b], o2s[b]
        v, theta = vs[b], thetas[b]
        clock, slow_clock = started(taus), started(slow)
        known = with_trace(r1, touched)
        seen[:] = -1
        z = zs[b]
        many[0] = z.sum()
        for t in range(steps):
            row = t * batch + b
            count = distinct(index, x[row], x[row + 1], seen, t, before)
            current[:] = 0
            for k in range(count):
                add_row(weight[before[k]], current)
            if learns and count:
                known = learn_at_pre(t, before, count, weight, r1, r2, o1, clock, numbers, touched, known, change)
            tick(slow_clock, 0, t, theta)
            many[1] = slow_clock[0, 2]
            reached = _membranes(v, theta, current, z, options, many[1], many[0], u)
            z = out[t, b]
            z[:] = 0
            arrived = 0
            if reached > 0:
                if single:
                    after[0] = _first(u, theta, options, many[1])
                    arrived = 1
                else:
                    threshold = options[1]
                    for j in range(outputs):
                        after[arrived] = j
                        arrived += u[j] >= threshold + theta[j] * many[1]
            many[0] = arrived
            for j in range(outputs):
                v[j] = u[j]
            scratch[0] = options[2] / slow_clock[0, 2]
            for k in range(arrived):
                j = after[k]
                z[j] = 1
                v[j] = 0
                theta[j] += scratch[0]
            if learns:
                learn_at_post(
                    t, after, arrived, weight, r1, o1, o2, clock, numbers, touched, known, factor, mask, change
                )
                learn_slowly(t, before, count, r2, clock, numbers)
        if steps:
            for j in range(outputs):
                zs[b, j] = z[j]
        rebased(slow_clock, 0, steps - 1, theta)
        rebased(clock, 0, steps - 1, r1)
        rebased(clock, 1, steps - 1, o1)
        rebased(clock, 2, steps - 1, r2)
        rebased(clock, 3, steps - 1, o2)


@cache
def _stdp_kernel(number: Any) -> Kernel:
    def stdp_run(table, low, high):
        steps = integer(table, 0)
        pre, pre_index = vector(table, 1, np.int64), vector(table, 2, np.int32)
        post, post_index = vector(table, 3, np.int64), vector(table, 4, np.int32)
        weights, r1s, o1s = cube(table, 5, number), matrix(table, 6, number), matrix(table, 7, number)
        r2s, o2s, rule = matrix(table, 8, number), matrix(table, 9, number), vector(table, 10, number)
        taus = vector(table, 11, np.float64)
        _stdp(steps, pre, pre_index, post, post_index, weights, r1s, o1s, r2s, o2s, rule, taus, low, high)

    return Kernel(stdp_run)


@cache
def _layer_kernel(number: Any) -> Kernel:
    def stdp_layer(table, low, high):
        x, index, weights = vector(table, 0, np.int64), vector(table, 1, np.int32), cube(table, 2, number)
        r1s, o1s, r2s = matrix(table, 3, number), matrix(table, 4, number), matrix(table, 5, number)
        o2s, rule, taus = matrix(table, 6, number), vector(table, 7, number), vector(table, 8, np.float64)
        vs, zs, thetas = matrix(table, 9, number), matrix(table, 10, number), matrix(table, 11, number)
        options, slow, learns = vector(table, 12, number), vector(table, 13, np.float64), integer(table, 14)
        out = cube(table, 15, number)
        _layer(x, index, weights, r1s, o1s, r2s, o2s, rule, taus, vs, zs, thetas, options, slow, learns, out, low, high)

    return Kernel(stdp_layer)
