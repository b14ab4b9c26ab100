"""How neurons with a changed step go through a sequence: as one kernel, or step by step."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ranvier.compile.scan import scan
from ranvier.core.random import Draws
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.neurons.neuron import Bound, Neuron, reference
from ranvier.nn.norms._equation import fires_by, normalised_equation
from ranvier.nn.norms._scan import normalised_scan
from ranvier.nn.norms.norm import Norm, Statistics

State = dict[str, Tensor]


class Line(NamedTuple):
    """A norm of the input as a kernel takes it."""

    values: tuple[Tensor, ...]
    statistics: Statistics
    eps: float


def line_of(norm: Norm, x: Tensor) -> Line:
    """The norm's line for x, whose statistics it takes in in training."""
    gain, shift = norm.gain()
    statistics = norm.statistics(x)
    scale = gain * torch.rsqrt(statistics.var.to(gain.dtype) + norm.eps)
    return Line(shaped(x, norm.features, statistics.mean, scale, shift), statistics, norm.eps)


def shaped(x: Tensor, features: tuple[int, ...], *values: Tensor) -> tuple[Tensor, ...]:
    """Values of each feature in the shape in which they meet a step of x [T, B, *features, ...]."""
    shape = (*features, *[1] * (x.ndim - 2 - len(features)))
    return tuple([v.reshape(shape) for v in values])


def in_one_kernel(
    module: Stateful,
    neuron: Neuron,
    x: Tensor,
    state: Mapping[str, Tensor] | None,
    line: Line | None = None,
    membrane: Sequence[Tensor] = (),
) -> tuple[Tensor, State]:
    """Output and state after x, from `state` or from rest, recorded under the name of `module`."""
    initial = None if state is None else [state[k] for k in neuron.states]
    seeds = (neuron._seeds(x) if state is None else state) if neuron.random else {}
    values = [*neuron._values(), *(line.values if line else ()), *membrane]
    name = normalised_equation(neuron._equation, line is not None, bool(membrane))
    record = tuple([k for k in neuron.states if module.wants(k)])
    draws = (seeds["seed"], seeds["step"]) if neuron.random else None
    if line is not None and line.statistics.values is not None:
        y, finals, records = normalised_scan(name, x, values, line.statistics, line.eps, initial, record, draws)
    else:
        y, finals, records = scan(name, x, values, initial, record, draws)
    module.note("spikes", y)
    for key, value in zip(record, records, strict=True):
        module.note(key, value)
    return y, dict(zip(neuron.states, finals, strict=True)) | neuron.later(x, seeds)


def step_by_step(
    module: Stateful,
    neuron: Neuron,
    x: Tensor,
    state: Mapping[str, Tensor],
    change: Callable[[Bound], Callable[[Tensor], Tensor]] | None = None,
) -> tuple[Tensor, State]:
    """The same as a loop over the neuron's step; it fires by `change(bound)(u)` in place of u, v less the threshold."""
    bound = neuron.bind(state_dtype(x))
    if neuron.random:
        bound.draws = Draws(state["seed"], state["step"], x.shape[2:])
    if change is not None:
        fires_by(bound, change(bound))
    y, after = reference(module, bound.advance_one_step, x, {k: state[k] for k in neuron.states})
    return y, after | neuron.later(x, state)
