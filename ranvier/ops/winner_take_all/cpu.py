"""A winner-take-all circuit on the CPU: a whole presentation in one call, weights touched at spikes only; blocks are samples."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.buffers import empty
from ranvier.ops.native import NUMBERS, Kernel, cube, inlined, matrix, vector
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp.cpu import copied, numbers, taus
from ranvier.ops.stdp.kernels import add_row, distinct, learn_at_post, learn_at_pre, rebased, started, tick, with_trace
from ranvier.ops.stdp.reference import State
from ranvier.ops.stdp.rule import Rule
from ranvier.ops.winner_take_all.circuit import Circuit
from ranvier.ops.winner_take_all.reference import EXCITATORY, INHIBITORY, OUTPUT, TRACES, Outcome


def run(
    x: Spikes,
    teacher: Spikes | None,
    state: State,
    circuit: Circuit,
    rules: tuple[Rule, Rule] | None,
    record: bool,
) -> Outcome:
    """As the reference; what is given stays as it is."""
    steps, batch, _ = x.shape
    like = state["v"]
    learns = (rules is not None, rules is not None and teacher is not None)
    weight, readout = (
        copied(state[k]) if learnt else _shared(state[k])
        for k, learnt in zip(("weight", "readout"), learns, strict=True)
    )
    cells = [torch.stack([state[k] for k in names], 1) for names in (EXCITATORY, INHIBITORY, OUTPUT)]
    traces = [state[k].clone().contiguous() for k in TRACES]
    rows = [numbers(rule, like.dtype) for rule in rules] if rules is not None else [like.new_zeros(8)] * 2
    times = [taus(rule) for rule in rules] if rules is not None else [torch.ones(4, dtype=torch.float64)] * 2
    told = (
        teacher if teacher is not None else Spikes(torch.zeros(steps * batch + 1), torch.zeros(0), _shape(x, readout))
    )
    output = empty((steps, batch, readout.shape[2]), like.dtype)
    hidden = empty((steps if record else 0, batch, weight.shape[2]), like.dtype)
    fired = like.new_zeros(batch, weight.shape[2])
    _kernel(NUMBERS[like.dtype])(
        batch,
        weight.shape[2] * (len(x.index) + 4 * steps * batch),
        x.pointer,
        x.index,
        told.pointer,
        told.index,
        weight,
        readout,
        *cells,
        *traces,
        *rows,
        *times,
        _constants(circuit, like.dtype),
        torch.tensor([circuit.tau_theta / circuit.dt if learns[0] else float("inf")], dtype=torch.float64),
        torch.tensor([*learns, teacher is not None], dtype=torch.int64),
        output,
        hidden,
        fired,
    )
    after = {"weight": weight if learns[0] else state["weight"], "readout": readout if learns[1] else state["readout"]}
    for names, cell in zip((EXCITATORY, INHIBITORY, OUTPUT), cells, strict=True):
        after |= dict(zip(names, cell.unbind(1), strict=True))
    after |= dict(zip(TRACES, traces, strict=True))
    return Outcome(output, fired, hidden if record else None, after)


def _shape(x: Spikes, readout: Tensor) -> torch.Size:
    return torch.Size((*x.shape[:2], readout.shape[2]))


def _shared(weight: Tensor) -> Tensor:
    """Weights that rest, once where they are those of all samples."""
    return (weight[:1] if weight.stride(0) == 0 else weight).contiguous()


def _constants(c: Circuit, dtype: torch.dtype) -> Tensor:
    rise = c.theta_plus * (c.theta_start - c.theta_pole)
    large = (c.rest, c.reset, c.threshold, c.dt / c.tau)
    small = (c.small_rest, c.small_reset, c.small_threshold, c.dt / c.small_tau)
    rest = (*c.falls, c.reversal, c.wait, c.to_inhibitory, c.inhibition, rise, c.theta_pole, 1.0)
    return torch.tensor((*large, *small, *rest), dtype=dtype)


@inlined
def _large(cell, z_inh, c, fall, others, current):
    """A step of E, whose conductances grow by `current` and by the `others` spikes z_inh of I, less its own; how many fire."""
    _arrive(cell[1], current, c[8])
    _inhibit(cell[2], z_inh, c[9], c[13], others)
    _drift(cell[0], cell[1], cell[2], cell[3], c[0], c[3], c[10])
    return _fire(cell[0], cell[3], cell[4], cell[5], c[2], fall)


@inlined
def _small(v, g_exc, wait, z, none, c):
    """A step of I or C, whose conductances have grown and which nothing inhibits; how many fire."""
    _drift(v, g_exc, none, wait, c[4], c[7], c[10])
    return _fire(v, wait, z, none, c[6], c[6])


# loops of few arrays each: with more of them to tell apart none would be made of vectors


@inlined
def _arrive(g, current, fall):
    for j in range(g.size):
        g[j] = g[j] * fall + current[j]


@inlined
def _inhibit(g, z, fall, inhibition, others):
    """Spikes of I arrive at all E but their own."""
    for j in range(g.size):
        g[j] = g[j] * fall + inhibition * (others - z[j])


@inlined
def _drift(v, g_exc, g_inh, wait, rest, rate, reversal):
    for j in range(v.size):
        u = v[j]
        new = u + rate * (rest - u - g_exc[j] * u + g_inh[j] * (reversal - u))
        new = reversal if new < reversal else new
        v[j] = u if wait[j] > 0 else new


@inlined
def _fire(v, wait, z, theta, threshold, fall):
    count = 0
    for j in range(v.size):
        fires = (wait[j] <= 0) & (v[j] > threshold + theta[j] * fall)
        z[j] = fires
        count += int(fires)
    return count


@inlined
def _pause(v, wait, z, reset, steps, one, count):
    """Neurons that have fired are reset, and a step of the refractory time of the others has passed."""
    for j in range(wait.size):
        left = wait[j]
        wait[j] = left - one if left > 0 else left
    if count:
        for j in range(v.size):
            if z[j] > 0:
                v[j] = reset
                wait[j] = steps


@inlined
def _fade(g, fall):
    for j in range(g.size):
        g[j] *= fall


@inlined
def _which(z, found):
    count = 0
    for j in range(z.size):
        found[count] = j
        count += z[j] > 0
    return count


@inlined
def _present(
    x, index, told, told_index, weights, readouts, es, is_, os_, r1s, o1s, r2s, o2s,
    rule, rule_out, taus, taus_out, c, slow, flags, out, hidden, totals, low, high,
):  # fmt: skip
    steps, batch, outputs = out.shape
    inputs, neurons = weights.shape[1], weights.shape[2]
    learns, teaches, taught = flags[0] != 0, flags[1] != 0, flags[2] != 0
    seen, seen_out = np.empty(inputs, np.int64), np.empty(outputs, np.int64)
    before, after, said = np.empty(inputs, np.int64), np.empty(neurons + 1, np.int64), np.empty(outputs, np.int64)
    touched, touched_out = np.empty(inputs, np.int64), np.empty(neurons, np.int64)
    current, z_out, scratch = np.zeros(neurons, c.dtype), np.zeros(outputs, c.dtype), np.empty(4, c.dtype)
    factor, mask = np.zeros(neurons, c.dtype), np.zeros(neurons, c.dtype)
    factor_out, mask_out = np.zeros(outputs, c.dtype), np.zeros(outputs, c.dtype)
    number, none = np.zeros(2, c.dtype), np.zeros(max(neurons, outputs), c.dtype)
    for b in range(low, high):
        weight, readout = weights[b % weights.shape[0]], readouts[b % readouts.shape[0]]
        cell, inhibitory, output, theta = es[b], is_[b], os_[b], es[b, 5]
        r1, o1, r2, o2 = r1s[b], o1s[b], r2s[b], o2s[b]
        clock, clock_out, slow_clock = started(taus), started(taus_out), started(slow)
        known, known_out = with_trace(r1, touched), with_trace(r2, touched_out)
        seen[:], seen_out[:] = -1, -1
        fired, others = _which(cell[4], after), np.int64(inhibitory[3].sum())
        for t in range(steps):
            row = t * batch + b
            arrives = 0
            if x[row] != x[row + 1]:
                arrives = distinct(index, x[row], x[row + 1], seen, t, before)
            current[:] = 0
            for k in range(arrives):
                add_row(weight[before[k]], current)
            if learns and arrives:
                known = learn_at_pre(t, before, arrives, weight, r1, r1, o1, clock, rule, touched, known, scratch)
            _fade(inhibitory[1], c[8])
            _fade(output[1], c[8])
            for k in range(fired):
                inhibitory[1, after[k]] += c[12]
                add_row(readout[after[k]], output[1])
            tick(slow_clock, 0, t, theta)
            number[0] = slow_clock[0, 2]
            number[1] = others
            fires = _large(cell, inhibitory[3], c, number[0], number[1], current)
            _pause(cell[0], cell[3], cell[4], c[1], c[11], c[16], fires)
            others = _small(inhibitory[0], inhibitory[1], inhibitory[2], inhibitory[3], none, c)
            _pause(inhibitory[0], inhibitory[2], inhibitory[3], c[5], c[11], c[16], others)
            answers = _small(output[0], output[1], output[2], z_out, none, c)
            _pause(output[0], output[2], z_out, c[5], c[11], c[16], answers)
            fired = _which(cell[4], after) if fires > 0 else 0
            if taught:
                count = distinct(told_index, told[row], told[row + 1], seen_out, t, said)
                z_out[:] = 0
                for k in range(count):
                    z_out[said[k]] = 1
            for k in range(outputs):
                out[t, b, k] = z_out[k]
            if hidden.shape[0]:
                for j in range(neurons):
                    hidden[t, b, j] = cell[4, j]
            for k in range(fired):
                j = after[k]
                totals[b, j] += 1
                if learns:
                    theta[j] += c[14] / abs(theta[j] * number[0] - c[15]) / number[0]
            if learns:
                learn_at_post(t, after, fired, weight, r1, o1, o1, clock, rule, touched, known, factor, mask, scratch)
            if teaches:
                if fired:
                    known_out = learn_at_pre(
                        t, after, fired, readout, r2, r2, o2, clock_out, rule_out, touched_out, known_out, scratch
                    )
                learn_at_post(
                    t, said, count, readout, r2, o2, o2, clock_out, rule_out, touched_out, known_out,
                    factor_out, mask_out, scratch,
                )  # fmt: skip
        rebased(slow_clock, 0, steps - 1, theta)
        if learns:
            rebased(clock, 0, steps - 1, r1)
            rebased(clock, 1, steps - 1, o1)
            rebased(clock_out, 0, steps - 1, r2)
            rebased(clock_out, 1, steps - 1, o2)


@cache
def _kernel(number: Any) -> Kernel:
    def winner_take_all(table, low, high):
        x, index = vector(table, 0, np.int64), vector(table, 1, np.int32)
        told, told_index = vector(table, 2, np.int64), vector(table, 3, np.int32)
        weights, readouts = cube(table, 4, number), cube(table, 5, number)
        es, is_, os_ = cube(table, 6, number), cube(table, 7, number), cube(table, 8, number)
        r1s, o1s = matrix(table, 9, number), matrix(table, 10, number)
        r2s, o2s = matrix(table, 11, number), matrix(table, 12, number)
        rule, rule_out = vector(table, 13, number), vector(table, 14, number)
        taus, taus_out = vector(table, 15, np.float64), vector(table, 16, np.float64)
        c, slow, flags = vector(table, 17, number), vector(table, 18, np.float64), vector(table, 19, np.int64)
        out, hidden, totals = cube(table, 20, number), cube(table, 21, number), matrix(table, 22, number)
        _present(
            x, index, told, told_index, weights, readouts, es, is_, os_, r1s, o1s, r2s, o2s,
            rule, rule_out, taus, taus_out, c, slow, flags, out, hidden, totals, low, high,
        )  # fmt: skip

    return Kernel(winner_take_all)
