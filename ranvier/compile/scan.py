"""The time loop of a program as one differentiable operation, on the device where its input is."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.compile import operator
from ranvier.compile.plan import Plan, prepared, reordered, restored, step_order
from ranvier.core.checks import Refusal, nearest, refuse_second_derivative

Backend = Literal["fused", "reference"]
_chosen = threading.local()  # a ContextVar would break torch.compile(fullgraph=True)

# before torch 2.13 torch.compile, too, sees is_exporting() as true; a strict export there holds our operator
_EXPORTING_IS_TOLD = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


@contextmanager
def backend(name: Backend) -> Iterator[None]:
    """Inside, neurons run as generated kernels ("fused", the default) or as a loop over their `step` ("reference").

    >>> import torch, ranvier
    >>> x = torch.randn(10, 2, 3)
    >>> with ranvier.backend("reference"):
    ...     y = ranvier.LIF()(x)
    >>> torch.equal(y, ranvier.LIF()(x))
    True
    """
    if name not in ("fused", "reference"):
        raise Refusal(
            "backend", expected="'fused' or 'reference'", got=repr(name), do=nearest(name, ("fused", "reference"))
        )
    before = getattr(_chosen, "backend", "fused")
    _chosen.backend = name
    try:
        yield
    finally:
        _chosen.backend = before


def wants_reference() -> bool:
    """Whether the plain loop is asked for, or is what an exporter or a function transform needs to see."""
    if getattr(_chosen, "backend", "fused") == "reference":
        return True
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting() and (_EXPORTING_IS_TOLD or not torch.compiler.is_dynamo_compiling())
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        outputs, checkpoints = plan.forward(x, values, keep=True)
        ctx.plan, ctx.given = plan, len(values)
        ctx.save_for_backward(x, *values, *checkpoints)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("fused neurons")
        x, *rest = ctx.saved_tensors
        values, checkpoints = rest[: ctx.given], rest[ctx.given :]
        return None, *ctx.plan.backward(x, values, checkpoints, grads, ctx.needs_input_grad[1:])


def scan(
    equation: str,
    x: Tensor,
    values: Sequence[Tensor],
    initial: Sequence[Tensor] | None = None,
    record: tuple[str, ...] = (),
    draws: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Output, final states and recorded states of an equation over x [T, B, ...features].

    `values` are its parameters' in their order. Without `initial` the states start at rest. `draws` are seed and first
    step [B] of an equation that draws random numbers.
    """
    grad = torch.is_grad_enabled()
    learnt = tuple([v.requires_grad for v in values]) if grad else ()
    needed = grad and (x.requires_grad or any(learnt) or any(s.requires_grad for s in initial or ()))
    order = step_order(x) if draws is None else None
    if order is not None:
        x, values, initial = reordered(order, x, values, initial)
    if torch.compiler.is_compiling():
        outputs = operator.scan(equation, x, values, initial, record, draws, learnt, needed)
    else:
        plan, x, given = prepared(equation, x, values, initial, record, draws, learnt)
        outputs = _Scan.apply(plan, x, *given) if needed else plan.forward(x, given, keep=False)[0]  # type: ignore[no-untyped-call]
    if order is not None:
        outputs = restored(order, outputs, len(record))
    states = len(outputs) - 1 - len(record)
    return outputs[0], list(outputs[1 : 1 + states]), list(outputs[1 + states :])
