"""`recurrent_scan`: neurons that hear their own output through weights, all steps as one differentiable operation."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.plan import Plan, prepared, summed
from ranvier.core.checks import Refusal, refuse_second_derivative


class _Recurrent(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        clock: Tensor | None,
        temporal: bool,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        z: Tensor,
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        values, initial = given[: plan.given], given[plan.given :]
        record = plan.variant.record
        with _exactly(x):
            found = _device(x).forward(plan, x, weight, bias, z, values, initial, clock, record, keep=True)
        ctx.plan, ctx.clock, ctx.temporal, ctx.biased = plan, clock, temporal, bias is not None
        ctx.save_for_backward(weight, z, found.y, *values, *found.kept)
        ctx.set_materialize_grads(False)
        return found.y, _last(found.y, z), *found.finals, *found.records

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("fused recurrent neurons")
        plan: Plan = ctx.plan
        weight, z, y, *rest = ctx.saved_tensors
        values, kept = rest[: plan.given], rest[plan.given :]
        states = len(plan.program.states)
        gy, last, finals, courses = grads[0], grads[1], grads[2 : 2 + states], grads[2 + states :]
        needs_x, needs_weight, needs_bias, needs_z, *needs = ctx.needs_input_grad[3:]
        gone: Tensor | None = None
        if last is not None:
            if len(y):
                gy = torch.zeros_like(y) if gy is None else gy.clone()
                gy[-1] += last
            else:
                gone = last  # the output before the first step is the one after the last
        named = zip(plan.variant.record, courses, strict=True)
        records = {k: g.contiguous() for k, g in named if g is not None}
        with _exactly(y):
            found = _device(y).backward(
                plan,
                ctx.temporal,
                weight,
                z,
                values,
                ctx.clock,
                y,
                kept,
                None if gy is None else gy.contiguous(),
                finals,
                records,
                needs_weight,
            )
            gc = found.currents
            if needs_z and gone is None:
                gone = gc[0] @ weight if ctx.temporal and len(gc) else torch.zeros_like(z)
        learnt = dict(zip(plan.program.learnt, found.parameters, strict=True))
        gp = [
            summed(learnt[k], layout).reshape(value.shape) if k in learnt else None
            for k, value, layout in zip(plan.program.parameters, values, plan.layouts, strict=True)
        ]
        initial = found.initial if any(needs[plan.given :]) else [None] * states
        gb = gc.reshape(-1, gc.shape[-1]).sum(0) if needs_bias else None
        return None, None, None, gc if needs_x else None, found.weight, gb, gone if needs_z else None, *gp, *initial


def recurrent_scan(
    equation: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor,
    values: Sequence[Tensor],
    initial: Sequence[Tensor],
    record: tuple[str, ...] = (),
    draws: tuple[Tensor, Tensor] | None = None,
    temporal: bool = True,
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Output, last output, final states and recorded states of z[t] = neuron(x[t] + weight z[t-1] + bias).

    x [T, B, ..., H], weight [H, H], z and each of `initial` [B, ..., H]; the rest is as in `compile.scan.scan`. `temporal`
    False keeps the gradient from passing through the weights to the step before.
    """
    number = torch.float64 if x.dtype == torch.float64 else torch.float32
    width = x.shape[-1]
    if weight.shape != (width, width):
        raise Refusal(
            "recurrent weights",
            expected=f"[{width}, {width}], from and to each of the input's {width} features",
            got=str(tuple(weight.shape)),
            do="Make in_features and out_features of the recurrent Linear those of its neurons.",
        )
    if weight.device != x.device:
        raise Refusal(
            "recurrent weights",
            expected=f"{x.device}, where the input is",
            got=str(weight.device),
            do="Move the model, as in model.to(x.device).",
        )
    learnt = tuple([v.requires_grad for v in values]) if torch.is_grad_enabled() else ()
    plan, rows, given = prepared(equation, x.to(number), values, initial, record, draws, learnt)
    tensors = [rows.contiguous(), weight.to(number), None if bias is None else bias.to(number), z.contiguous(), *given]
    clock = None if draws is None else _clock(given[plan.given - 1], len(x))
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        y, last, *rest = _Recurrent.apply(plan, clock, temporal, *tensors)  # type: ignore[no-untyped-call]
    else:
        rows, weight, bias, z = tensors[:4]  # type: ignore[assignment]
        with _exactly(x):
            values, initial = given[: plan.given], given[plan.given :]
            found = _device(x).forward(plan, rows, weight, bias, z, values, initial, clock, record, keep=False)
        y, last, rest = found.y, _last(found.y, z), [*found.finals, *found.records]
    states = len(plan.program.states)
    return y.to(x.dtype), last, rest[:states], rest[states:]


def _last(y: Tensor, z: Tensor) -> Tensor:
    return (y[-1] if len(y) else z).clone()


def _device(x: Tensor) -> ModuleType:
    if x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        from ranvier.ops.recurrent_scan import cpu

        return cpu
    from ranvier.ops.recurrent_scan import gpu

    return gpu


@contextmanager
def _exactly(x: Tensor) -> Iterator[None]:
    """Inside, products keep to the dtype they are given, whatever the autocast."""
    with torch.autocast(x.device.type, enabled=False):
        yield


def _clock(word: Tensor, steps: int) -> Tensor:
    """The word that counts the steps of random draws, as kernels take it, for each of the steps: [T, B]."""
    later = torch.arange(steps, device=word.device)[:, None]
    if word.dtype == torch.float64:
        return (word + later).remainder(2**32)
    return (word.view(torch.int32) + later.to(torch.int32)).view(torch.float32)
