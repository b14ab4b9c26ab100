"""Whether two ways of computing a neuron compute the same."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

BAND = 1e-5
"""Rounding can turn a spike whose membrane is as near to the threshold as this, relative to the input."""
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 4e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Parity:
    """Neurons whose course is decided by more than rounding, and in how many of them another's output differs."""

    neurons: int
    ties: int
    differ: int
    gradient: float
    """Largest difference of the input's gradient, relative to the largest gradient, where there is no tie."""
    tolerance: float

    @property
    def holds(self) -> bool:
        """The same output in every neuron without a tie, of which there must be enough, and the same gradient."""
        return self.differ == 0 and self.ties <= 0.2 * self.neurons and self.gradient <= self.tolerance

    def __str__(self) -> str:
        if self.ties > 0.2 * self.neurons:
            return f"undecided: rounding decides in {self.ties} of {self.neurons} neurons"
        if self.differ:
            return f"output differs in {self.differ} of {self.neurons - self.ties} neurons"
        return "same" if self.holds else f"gradient differs by {self.gradient:.1g}"

    def facts(self) -> dict[str, object]:
        return {**asdict(self), "holds": self.holds, "found": str(self)}


def ties(ours: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The neurons [B, ...features] of which an output turns when the input grows or shrinks by BAND."""
    exact = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    with torch.no_grad():
        low, high = ours(exact * (1 - BAND)), ours(exact * (1 + BAND))
    return ~_close(low, high, 1e-2).all(0)


def compare(ours: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], tied: Tensor) -> Parity:
    """Output and input gradient of ours and of another, for neurons that are not tied."""
    (y, g), (y2, g2) = ours, (other[0].to(ours[0].dtype), other[1].to(ours[1].dtype))
    tolerance = _TOLERANCE[y.dtype]
    differ = ~_close(y, y2, tolerance).all(0) & ~tied
    gaps = (g - g2).abs().amax(0)[~tied & ~differ]
    relative = float(gaps.max() / g.abs().max().clamp_min(1e-30)) if len(gaps) else 0.0
    relative = relative if math.isfinite(relative) else 1e9  # JSON has no NaN
    return Parity(tied.numel(), int(tied.sum()), int(differ.sum()), relative, tolerance)


def _close(a: Tensor, b: Tensor, tolerance: float) -> Tensor:
    return (a - b).abs() <= tolerance * b.abs().clamp_min(1.0)
