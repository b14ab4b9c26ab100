"""The recurrence of an ELM: as its equations are written, and with what can be taken out of the loop over time."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ranvier.compile import buffers
from ranvier.core.checks import refuse_second_derivative
from ranvier.nn.units.courses import leaky_sum, stacked, unrounded

_TANH_SLOPE, _TANH_SCALE = 2 / 3, 1.7159  # LeCun's tanh, which is about 1 at 1


class Unit(NamedTuple):
    """The numbers of the equations; a leak is 1 - kappa."""

    activation: str
    synapse_leak: Tensor
    leak: Tensor
    gain: Tensor
    into: Tensor
    into_bias: Tensor
    out: Tensor
    out_bias: Tensor


def plain(unit: Unit, u: Tensor, b: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """The courses of b and m under the branch inputs u [T, B, branches]."""
    activate = getattr(functional, unit.activation)
    first = b, m
    courses: tuple[list[Tensor], list[Tensor]] = [], []
    for u_t in u.unbind(0):
        b = b - unit.synapse_leak * b + u_t
        p = m - unit.leak * m  # and not kappa m: the rounding of a kappa near 1 would add up
        hidden = activate(functional.linear(torch.cat([b, p], dim=-1), unit.into, unit.into_bias))
        change = _TANH_SCALE * torch.tanh(_TANH_SLOPE * functional.linear(hidden, unit.out, unit.out_bias))
        m = p + unit.gain * change
        courses[0].append(b)
        courses[1].append(m)
    return stacked(first[0], courses[0]), stacked(first[1], courses[1])


def hoisted(unit: Unit, u: Tensor, b: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """As `plain`; inside the loop is only what the memory of the step before is needed for."""
    course = leaky_sum(u, unit.synapse_leak, b)
    gain, out, out_bias = _TANH_SCALE * unit.gain, _TANH_SLOPE * unit.out, _TANH_SLOPE * unit.out_bias
    given = (course, m, unit.leak, gain, unit.into, unit.into_bias, out, out_bias)
    keep = torch.is_grad_enabled() and any(v.requires_grad for v in given)
    if torch.compiler.is_compiling():
        return course, _operator(unit.activation, keep, *given)[0]
    if keep:
        memory: Tensor = _Memory.apply(unit.activation, keep, *given)  # type: ignore[no-untyped-call]
        return course, memory
    return course, _forward(unit.activation, keep, *given)[0]


def _forward(
    activation: str,
    keep: bool,
    course: Tensor,
    m: Tensor,
    leak: Tensor,
    gain: Tensor,
    into: Tensor,
    into_bias: Tensor,
    out: Tensor,
    out_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """m[t] = p + gain tanh(out f(into [b[t], p])), p = m[t-1] - leak m[t-1], each product with its bias.

    The course of m, and of what backward needs with `keep`: the hidden units (before a SiLU, after a ReLU) and the tanh.
    """
    steps, branches = course.shape[0], course.shape[-1]
    hidden, memory = _empty(course, into.shape[0]), _empty(course, m.shape[-1])
    squashed = _empty(course if keep else course[:1], m.shape[-1])
    torch.addmm(into_bias, course.flatten(0, 1), into[:, :branches].t(), out=hidden.flatten(0, 1))
    into_t, out_t = into[:, branches:].t(), out.t()
    each_squashed = squashed.unbind(0) if keep else squashed.unbind(0) * steps
    for hidden_t, squashed_t, m_t in zip(hidden.unbind(0), each_squashed, memory.unbind(0), strict=True):
        p = torch.addcmul(m, m, leak, value=-1)
        hidden_t.addmm_(p, into_t)
        active = hidden_t.relu_() if activation == "relu" else functional.silu(hidden_t)
        torch.addmm(out_bias, active, out_t, out=squashed_t)
        m = torch.addcmul(p, squashed_t.tanh_(), gain, out=m_t)
    return memory, hidden, squashed


def _backward(
    activation: str,
    learns_tau: bool,
    grad: Tensor,
    course: Tensor,
    m: Tensor,
    leak: Tensor,
    gain: Tensor,
    into: Tensor,
    out: Tensor,
    memory: Tensor,
    hidden: Tensor,
    squashed: Tensor,
) -> list[Tensor]:
    """The gradients of what `_forward` was given, in its order; those of the weights are one product each."""
    branches, ops = course.shape[-1], torch.ops.aten
    to_squashed, to_hidden = torch.empty_like(squashed), torch.empty_like(hidden)
    to_m, to_p = (torch.empty_like(memory if learns_tau else memory[:0]) for _ in range(2))
    recurrent, later = into[:, branches:], torch.zeros_like(m)
    for t in reversed(range(course.shape[0])):
        now = later + grad[t]
        ops.tanh_backward.grad_input(now * gain, squashed[t], grad_input=to_squashed[t])
        active = to_squashed[t] @ out
        if activation == "relu":
            ops.threshold_backward.grad_input(active, hidden[t], 0, grad_input=to_hidden[t])
        else:
            ops.silu_backward.grad_input(active, hidden[t], grad_input=to_hidden[t])
        decayed = torch.addmm(now, to_hidden[t], recurrent)
        later = torch.addcmul(decayed, decayed, leak, value=-1)
        if learns_tau:
            to_m[t], to_p[t] = now, decayed
    before = torch.cat([m[None], memory])[:-1]
    p, active = before - leak * before, hidden if activation == "relu" else functional.silu(hidden)
    flat_hidden, flat_squashed = to_hidden.flatten(0, 1), to_squashed.flatten(0, 1)
    return [
        to_hidden @ into[:, :branches],
        later,
        -(to_p * before).sum((0, 1)) if learns_tau else torch.zeros_like(leak),
        (to_m * squashed).sum((0, 1)) if learns_tau else torch.zeros_like(gain),
        flat_hidden.t() @ torch.cat([course, p], dim=-1).flatten(0, 1),
        flat_hidden.sum(0),
        flat_squashed.t() @ active.flatten(0, 1),
        flat_squashed.sum(0),
    ]


def _empty(course: Tensor, width: int) -> Tensor:
    shape = (*course.shape[:-1], width)
    return buffers.empty(shape, course.dtype) if course.device.type == "cpu" else course.new_empty(shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.activation, _, course, m, leak, gain, into, _, out, _ = inputs
    ctx.save_for_backward(course, m, leak, gain, into, out, *output)


class _Memory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        output = _forward(*inputs)
        _keep(ctx, inputs, output)
        return output[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("ELM")
        learns_tau = ctx.needs_input_grad[4] or ctx.needs_input_grad[5]
        with unrounded(grads[0]):
            return None, None, *_backward(ctx.activation, learns_tau, grads[0], *ctx.saved_tensors)


# As operators, which torch.compile takes into its graphs as they are instead of unrolling the loop; slower to call.
_operator = torch.library.custom_op("ranvier::leaky_memory", _forward, mutates_args=())
_backward_operator = torch.library.custom_op("ranvier::leaky_memory_backward", _backward, mutates_args=())


@_operator.register_fake
def _(
    activation: str, keep: bool, course: Tensor, m: Tensor, leak: Tensor, gain: Tensor, into: Tensor, *_: Tensor
) -> Any:
    steps, batch, _branches = course.shape
    rows = steps if keep else min(steps, 1)
    return tuple(
        course.new_empty(n, batch, width)
        for n, width in ((steps, m.shape[-1]), (steps, into.shape[0]), (rows, m.shape[-1]))
    )


@_backward_operator.register_fake
def _(
    activation: str,
    learns_tau: bool,
    grad: Tensor,
    course: Tensor,
    m: Tensor,
    leak: Tensor,
    gain: Tensor,
    into: Tensor,
    out: Tensor,
    *_: Tensor,
) -> list[Tensor]:
    bias = (into.shape[0], out.shape[0])
    alike = [torch.empty(v.shape, dtype=v.dtype, device=v.device) for v in (course, m, leak, gain, into, out)]
    return [*alike[:5], into.new_empty(bias[0]), alike[5], out.new_empty(bias[1])]


def _gradient(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    learns_tau = ctx.needs_input_grad[4] or ctx.needs_input_grad[5]
    return None, None, *_backward_operator(ctx.activation, learns_tau, grad, *ctx.saved_tensors)


_operator.register_autograd(_gradient, setup_context=_keep)
