"""A normalised neuron's time loop as one differentiable operation: the normalised tensor is never written."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.plan import Plan, equations, prepared, reordered, restored, step_order
from ranvier.core.checks import refuse_second_derivative
from ranvier.core.state import state_dtype
from ranvier.nn.norms._equation import LINE
from ranvier.nn.norms.norm import Statistics
from ranvier.ops.channel_moments import add_lines_


class _Scan(torch.autograd.Function):
    """As compile.scan's; mean and scale are x's own, so that each channel's x gets a line more of gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        x: Tensor,
        first: int,
        statistics: Statistics,
        eps: float,
        order: tuple[int, ...] | None,
        *values: Tensor,
    ) -> tuple[Tensor, ...]:
        outputs, checkpoints = plan.forward(x, values, keep=True)
        ctx.plan, ctx.given, ctx.first, ctx.eps, ctx.order = plan, len(values), first, eps, order
        _, var, ctx.count, real = statistics
        ctx.save_for_backward(x, var, *([] if real is None else [real]), *values, *checkpoints)
        ctx.masked = real is not None
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("fused normalised neurons")
        x, var, *rest = ctx.saved_tensors
        real = rest.pop(0) if ctx.masked else None
        values, checkpoints = rest[: ctx.given], rest[ctx.given :]
        needs = (ctx.needs_input_grad[1], *ctx.needs_input_grad[6:])
        gx, *found = ctx.plan.backward(x, values, checkpoints, grads, needs)
        if gx is not None:
            mean, scale = (values[ctx.first + k].reshape(-1) for k in (0, 1))
            g_scale, g_shift = (found[ctx.first + k].reshape(-1) for k in (1, 2))
            share = -scale / ctx.count
            slope = share * g_scale / (var.to(scale.dtype) + ctx.eps)
            offset = share * g_shift - slope * mean
            seen, of = (t if ctx.order is None else restored(ctx.order, [t], 0)[0] for t in (gx, x))
            _add(seen, of, offset, slope, real)
        return None, gx, None, None, None, None, *found


def _add(gx: Tensor, x: Tensor, offset: Tensor, slope: Tensor, real: Tensor | None) -> None:
    if real is None:
        add_lines_(gx, x, offset, slope)
        return
    mask = real.reshape(*real.shape, *[1] * (x.ndim - 2))
    line = torch.zeros(x.shape, dtype=state_dtype(x), device=x.device)
    add_lines_(line, torch.where(mask, x, 0.0).to(line.dtype), offset, slope)
    gx += torch.where(mask, line, 0.0).to(gx.dtype)


def normalised_scan(
    equation: str,
    x: Tensor,
    values: Sequence[Tensor],
    statistics: Statistics,
    eps: float,
    initial: Sequence[Tensor] | None,
    record: tuple[str, ...],
    draws: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Output, final states and recorded states, as compile.scan.scan gives them, where the values of LINE are x's own."""
    learnt = [v.requires_grad and torch.is_grad_enabled() for v in values]
    first = equations[equation].parameters.index(LINE[0])
    needed = torch.is_grad_enabled() and (x.requires_grad or any(learnt) or any(s.requires_grad for s in initial or ()))
    if needed and x.requires_grad:
        learnt[first + 1] = learnt[first + 2] = True
    order = step_order(x) if draws is None else None
    if order is not None:
        x, values, initial = reordered(order, x, values, initial)
    plan, x, given = prepared(equation, x, values, initial, record, draws, tuple(learnt) if needed else ())
    kept = (plan, x, first, statistics, eps, order, *given)
    outputs = _Scan.apply(*kept) if needed else plan.forward(x, given, keep=False)[0]  # type: ignore[no-untyped-call]
    if order is not None:
        outputs = restored(order, outputs, len(record))
    states = len(outputs) - 1 - len(record)
    return outputs[0], list(outputs[1 : 1 + states]), list(outputs[1 + states :])
