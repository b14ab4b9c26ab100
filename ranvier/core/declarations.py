"""What a stateful module declares of itself: its parameters and its state."""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ranvier.core.checks import Refusal


@dataclass(frozen=True)
class Parameter:
    """A number (or one per feature) in a neuron's equation, with its unit and bounds.

    `unit="dt"` makes default and bounds multiples of the neuron's time step.
    """

    default: float
    unit: str = "1"
    low: float = -inf
    high: float = inf
    doc: str = ""

    if TYPE_CHECKING:  # inside `step` a declared name is its value

        def __get__(self, instance: object, owner: type) -> Tensor: ...

    def scaled(self, dt: float) -> tuple[float, float, float]:
        """Default, low and high in the unit of `dt`."""
        scale = dt if self.unit == "dt" else 1.0
        return self.default * scale, self.low * scale, self.high * scale


@dataclass(frozen=True)
class State:
    """A variable that a neuron carries from step to step, with its value at rest."""

    rest: float = 0.0
    unit: str = "1"
    doc: str = ""

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> Tensor: ...


class _Within(torch.autograd.Function):
    """Clamp whose gradient still passes where a descent step would lead back inside.

    A plain clamp has no gradient outside its bounds, so a parameter that one optimiser step
    carried past a bound would never come back.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, low: float, high: float) -> Tensor:
        return value.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        value, ctx.low, ctx.high = inputs
        ctx.save_for_backward(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (value,), (grad,) = ctx.saved_tensors, grads
        outward = ((value <= ctx.low) & (grad > 0)) | ((value >= ctx.high) & (grad < 0))
        return grad.masked_fill(outward, 0.0), None, None


def within(value: Tensor, low: float, high: float) -> Tensor:
    """`value` held in [low, high]; the gradient vanishes only where descent would lead further out."""
    if low == -inf and high == inf:
        return value
    result: Tensor = _Within.apply(value, low, high)  # type: ignore[no-untyped-call]
    return result


def checked(owner: str, name: str, value: Tensor, low: float, high: float) -> Tensor:
    """`value`, or a refusal when it leaves its declared bounds or is not finite."""
    if not value.is_floating_point():
        value = value.to(torch.get_default_dtype())
    bad = ~((value >= low) & (value <= high) & value.isfinite())
    if value.device.type != "meta" and bool(bad.any()):
        raise Refusal(
            f"{owner}.{name}",
            expected=f"finite values in [{low:g}, {high:g}]",
            got=f"{value.detach()[bad].flatten()[0].item():g}"
            + ("" if value.ndim == 0 else f" (and {int(bad.sum()) - 1} more)"),
            do=f"Choose {name} inside its bounds, or another dt or discretisation.",
        )
    return value
