"""The time loop as an operator of torch.library, which torch.compile takes into its graphs as it is.

Outside of compiled graphs the lean autograd function of `scan` is used: an operator costs four times as much a call.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.plan import equations, prepared


def scan(
    equation: str,
    x: Tensor,
    values: Sequence[Tensor],
    initial: Sequence[Tensor] | None,
    record: tuple[str, ...],
    draws: tuple[Tensor, Tensor] | None,
    learnt: tuple[bool, ...],
    needed: bool,
) -> list[Tensor]:
    """Output, final states and recorded states, as `compile.scan.scan` gives them."""
    at_rest = initial is None
    outputs: list[Tensor] = torch.ops.ranvier.scan(
        x,
        list(values),
        list(initial or []),
        list(draws or []),
        equation,
        ",".join(record),
        list(learnt),
        at_rest,
        needed,
    )
    states = len(outputs) - 1 - len(record)
    # what follows are the checkpoints
    return outputs[: 1 + (states // 2 if needed else states) + len(record)]


@torch.library.custom_op("ranvier::scan", mutates_args=())
def _scan(
    x: Tensor,
    values: list[Tensor],
    initial: list[Tensor],
    draws: list[Tensor],
    equation: str,
    record: str,
    learnt: list[bool],
    at_rest: bool,
    needed: bool,
) -> list[Tensor]:
    plan, rows, given = _prepared(x, values, initial, draws, equation, record, learnt, at_rest)
    outputs, checkpoints = plan.forward(rows, given, keep=needed)
    return [*outputs, *checkpoints]


@_scan.register_fake
def _(
    x: Tensor,
    values: list[Tensor],
    initial: list[Tensor],
    draws: list[Tensor],
    equation: str,
    record: str,
    learnt: list[bool],
    at_rest: bool,
    needed: bool,
) -> list[Tensor]:
    states = equations[equation].states
    number = torch.float64 if x.dtype == torch.float64 else torch.float32
    outputs = [x.new_empty(x.shape), *(x.new_empty(x.shape[1:], dtype=number) for _ in states)]
    outputs += [x.new_empty(x.shape, dtype=number) for _ in _split(record)]
    if needed:
        rows = equations[equation].checkpoints(x, learnt)
        outputs += [x.new_empty((rows, *x.shape[1:]), dtype=number) for _ in states]
    return outputs


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, values, initial, draws, *ctx.rest = inputs
    equation, record, *_ = ctx.rest
    states = len(equations[equation].states)
    ctx.outputs, ctx.sizes = len(output), (len(values), len(initial), len(draws))
    ctx.save_for_backward(x, *values, *initial, *draws, *output[1 + states + len(_split(record)) :])


def _gradient(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x, *rest = ctx.saved_tensors
    equation, record, learnt, at_rest, _ = ctx.rest
    values, initial, draws, checkpoints = _parts(rest, ctx.sizes)
    kept = grads[: ctx.outputs - len(checkpoints)]
    needs_x = ctx.needs_input_grad[0]
    found = torch.ops.ranvier.scan_backward(
        x, values, initial, draws, checkpoints, list(kept), equation, record, learnt, at_rest, needs_x
    )
    gx, found = (found[0], found[1:]) if needs_x else (None, found)
    g_values = [found.pop(0) if wanted else None for wanted in learnt] or [None] * len(values)
    return gx, g_values, found or [None] * len(initial), [None] * len(draws), None, None, None, None, None


@torch.library.custom_op("ranvier::scan_backward", mutates_args=())
def _backward(
    x: Tensor,
    values: list[Tensor],
    initial: list[Tensor],
    draws: list[Tensor],
    checkpoints: list[Tensor],
    grads: list[Tensor | None],
    equation: str,
    record: str,
    learnt: list[bool],
    at_rest: bool,
    needs_x: bool,
) -> list[Tensor]:
    plan, rows, given = _prepared(x, values, initial, draws, equation, record, learnt, at_rest)
    needs = [needs_x, *[False] * plan.given, *[not at_rest] * len(initial)]
    gx, *found = plan.backward(rows, given, checkpoints, grads, needs)
    g_values = [_back(g, v) for g, v, wanted in zip(found, values, learnt, strict=False) if wanted and g is not None]
    return [g for g in (gx, *g_values, *found[plan.given :]) if g is not None]


@_backward.register_fake
def _(
    x: Tensor,
    values: list[Tensor],
    initial: list[Tensor],
    draws: list[Tensor],
    checkpoints: list[Tensor],
    grads: list[Tensor | None],
    equation: str,
    record: str,
    learnt: list[bool],
    at_rest: bool,
    needs_x: bool,
) -> list[Tensor]:
    wanted = [v for v, w in zip(values, learnt, strict=False) if w]
    # torch.empty and not empty_like: gradients come contiguous, whatever their inputs are
    return [torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in ([x] if needs_x else []) + wanted + initial]


_scan.register_autograd(_gradient, setup_context=_save)


def _prepared(
    x: Tensor,
    values: list[Tensor],
    initial: list[Tensor],
    draws: list[Tensor],
    equation: str,
    record: str,
    learnt: list[bool],
    at_rest: bool,
) -> Any:
    states, seeds = None if at_rest else initial, (draws[0], draws[1]) if draws else None
    return prepared(equation, x, values, states, _split(record), seeds, tuple(learnt))


def _split(record: str) -> tuple[str, ...]:
    return tuple(record.split(",")) if record else ()


def _back(g: Tensor, value: Tensor) -> Tensor:
    """A gradient of what a kernel was given as one of what it was made from: the parameter, perhaps repeated or cast."""
    return g.sum_to_size(value.shape).to(value.dtype)


def _parts(tensors: Sequence[Tensor], sizes: Sequence[int]) -> list[list[Tensor]]:
    found, start = [], 0
    for size in (*sizes, len(tensors) - sum(sizes)):
        found.append(list(tensors[start : start + size]))
        start += size
    return found
