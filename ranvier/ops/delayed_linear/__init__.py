"""Synapses that each have a delay of their own: y[t, o] = sum over i and k of w[o, i] g(k; d[o, i]) x[t - k, i]."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.plan import _interpreting
from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal, refuse_second_derivative
from ranvier.ops.delayed_linear import reference
from ranvier.ops.delayed_linear.shapes import Kind


@dataclass(frozen=True)
class Window:
    """What a delayed linear layer is beside its tensors."""

    kind: Kind
    longest: int
    """the longest delay"""
    lead: int
    """steps of x that lie before the first output"""
    tail: int
    """steps of output after the last of x"""


def delayed_linear(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, *, kind: Kind, longest: int, lead: int = 0, tail: int = 0
) -> Tensor:
    """The layer over x [lead + T, B, I] with weight [O, I], delay [O, I], [1, I] or [O, 1] in [0, longest] and a number sigma.

    Output: [T + tail, B, O], that of the steps after the first `lead`, in the dtype of x. Computed in float32 or wider, but for
    x of 16 bits on a GPU, also by autocast: its weights are rounded to the dtype of x.
    """
    window = Window(kind, longest, lead, tail)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    made = weight.to(wide), delay.to(wide).expand_as(weight), sigma.to(wide)
    if wide == torch.float64 or x.device.type not in ("cpu", "cuda") or _plain():
        with _unrounded(x):
            return reference.delayed_linear(x.to(wide), *made, kind, longest, lead, tail).to(x.dtype)
    on_cpu = x.device.type == "cpu" and not _interpreting()
    if x.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        x = x.to(torch.get_autocast_dtype("cuda"))
    part = import_module(f"ranvier.ops.delayed_linear.{'cpu' if on_cpu else 'gpu'}")
    with _unrounded(x):
        y: Tensor = _DelayedLinear.apply(part, window, x.to(wide) if on_cpu else x, *made)  # type: ignore[no-untyped-call]
    return y.to(x.dtype)


def _unrounded(x: Tensor) -> AbstractContextManager[object]:
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _plain() -> bool:
    return torch.compiler.is_compiling() or wants_reference()


class _DelayedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Any, window: Window, x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor) -> Tensor:
        y: Tensor
        y, kept = part.forward(window, x, weight, delay, sigma, any(ctx.needs_input_grad))
        ctx.part, ctx.window, ctx.steps = part, window, len(x)
        ctx.save_for_backward(weight, delay, sigma.clone(), *kept)  # the width may be set anew before backward
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("delayed_linear")
        weight, delay, sigma, *kept = ctx.saved_tensors
        needs = ctx.needs_input_grad[2], any(ctx.needs_input_grad[3:])
        found = ctx.part.backward(ctx.window, ctx.steps, weight, delay, sigma, kept, grads[0], *needs)
        return None, None, *found, None
