"""Surrogate gradients: smooth steps whose slope stands in for the spike's in the backward pass.

Every surrogate is a cumulative function of s = u / width that rises from 0 to 1, so its slope has unit area, and
`width` means the same for all: the full width of the slope at half its maximum, in the unit of the membrane.
`scale` multiplies the slope; 1 leaves the area at 1.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ranvier.compile.symbol import Symbol
from ranvier.core.checks import Refusal


@dataclass(frozen=True)
class Surrogate(ABC):
    """A smooth step whose slope replaces the derivative of the spike."""

    width: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf or not math.isfinite(self.scale):
            raise Refusal(
                type(self).__name__,
                expected="width > 0 and a finite scale",
                got=f"width={self.width}, scale={self.scale}",
                do="The width is the slope's full width at half maximum; about the threshold is usual.",
            )

    @abstractmethod
    def step(self, s: Tensor) -> Tensor:
        """The smooth step from 0 to 1 at s = u / width."""

    @abstractmethod
    def slope(self, s: Tensor) -> Tensor:
        """The derivative of `step`."""

    def primitive(self, u: Tensor) -> Tensor:
        """The smooth stand-in for the spike at distance u from the threshold."""
        return self.scale * self.step(u / self.width)

    def derivative(self, u: Tensor) -> Tensor:
        """What the backward pass uses in place of the spike's derivative."""
        return (self.scale / self.width) * self.slope(u / self.width)


class Arctan(Surrogate):
    """Arctangent: step = 1/2 + arctan(2 s) / pi (Fang et al., ICCV 2021).

    Their `alpha` is 4 / (pi width).

    >>> import torch
    >>> Arctan(width=1.0).derivative(torch.tensor([0.0, 0.5]))
    tensor([0.6366, 0.3183])
    """

    def step(self, s: Tensor) -> Tensor:
        return 0.5 + torch.atan(2 * s) / math.pi

    def slope(self, s: Tensor) -> Tensor:
        return (2 / math.pi) / (1 + 4 * s * s)


_SIGMOID = 2 * math.log(3 + 2 * math.sqrt(2))


class Sigmoid(Surrogate):
    """Logistic: step = sigmoid(k s), k = 2 ln(3 + 2 sqrt 2) = 3.5255 (Zenke and Vogels, 2021).

    >>> import torch
    >>> Sigmoid(width=2.0).derivative(torch.tensor([0.0, 1.0]))
    tensor([0.4407, 0.2203])
    """

    def step(self, s: Tensor) -> Tensor:
        return torch.sigmoid(_SIGMOID * s)

    def slope(self, s: Tensor) -> Tensor:
        y = torch.sigmoid(_SIGMOID * s)
        return _SIGMOID * y * (1 - y)


_FAST = 2 * (math.sqrt(2) - 1)


class FastSigmoid(Surrogate):
    """Fast sigmoid (SuperSpike): slope = (k/2) / (1 + k |s|)^2, k = 2 (sqrt 2 - 1) (Zenke and Ganguli, 2018).

    SuperSpike's own 1 / (1 + beta |u|)^2 is width = 0.8284 / beta with scale = 2 / beta.

    >>> import torch
    >>> FastSigmoid(width=0.8284 / 10, scale=2 / 10).derivative(torch.tensor([0.0, 0.1]))
    tensor([1.0000, 0.2500])
    """

    def step(self, s: Tensor) -> Tensor:
        return 0.5 + 0.5 * _FAST * s / (1 + _FAST * s.abs())

    def slope(self, s: Tensor) -> Tensor:
        return (0.5 * _FAST) / (1 + _FAST * s.abs()).square()


class Triangle(Surrogate):
    """Triangle: slope = max(0, 1 - |s|) (Esser et al., 2016; Bellec et al., 2018).

    >>> import torch
    >>> Triangle(width=1.0).derivative(torch.tensor([0.0, 0.5, 2.0]))
    tensor([1.0000, 0.5000, 0.0000])
    """

    def step(self, s: Tensor) -> Tensor:
        c = s.clamp(-1, 1)
        return 0.5 + c - 0.5 * c * c.abs()

    def slope(self, s: Tensor) -> Tensor:
        return (1 - s.abs()).clamp_min(0)


class Rectangle(Surrogate):
    """Rectangle: slope = 1 where |s| < 1/2 (Wu et al., 2018).

    >>> import torch
    >>> Rectangle(width=0.5).derivative(torch.tensor([0.0, 0.2, 0.3]))
    tensor([2., 2., 0.])
    """

    def step(self, s: Tensor) -> Tensor:
        return 0.5 + s.clamp(-0.5, 0.5)

    def slope(self, s: Tensor) -> Tensor:
        return (s.abs() < 0.5).to(s.dtype)


_GAUSS = 2 * math.sqrt(2 * math.log(2))


class Gaussian(Surrogate):
    """Gaussian: slope = normal density of standard deviation width / 2.3548 (Yin et al., 2021, one lobe).

    >>> import torch
    >>> Gaussian(width=1.0).derivative(torch.tensor([0.0, 0.5]))
    tensor([0.9394, 0.4697])
    """

    def step(self, s: Tensor) -> Tensor:
        return 0.5 * (1 + torch.erf(s * (_GAUSS / math.sqrt(2))))

    def slope(self, s: Tensor) -> Tensor:
        return (_GAUSS / math.sqrt(2 * math.pi)) * torch.exp(-0.5 * (_GAUSS * s).square())


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, surrogate: Surrogate) -> Tensor:
        return (u >= 0).to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate], output: Tensor) -> None:
        u, ctx.surrogate = inputs
        ctx.save_for_backward(u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(u), None


def spike(u: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where u >= 0, else 0; the backward pass uses the surrogate's slope at u.

    >>> import torch
    >>> u = torch.tensor([-0.5, 0.0], requires_grad=True)
    >>> z = spike(u, Arctan()); z.sum().backward(); z.tolist(), u.grad
    ([0.0, 1.0], tensor([0.3183, 0.6366]))
    """
    if isinstance(u, Symbol):
        return u.graph.apply("spike", u, value=surrogate)
    z: Tensor = _Spike.apply(u, surrogate)  # type: ignore[no-untyped-call]
    return z


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, operation: str) -> Tensor:
        whole: Tensor = getattr(torch, operation)(u)
        return whole

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(operation: Literal["floor", "round"], u: Tensor) -> Tensor:
    """A whole number near u, whose gradient is taken to be 1 (Bengio, Leonard and Courville, 2013).

    >>> import torch
    >>> u = torch.tensor([1.5, 2.5], requires_grad=True)
    >>> y = straight_through("round", u); y.sum().backward(); y.tolist(), u.grad.tolist()
    ([2.0, 2.0], [1.0, 1.0])
    """
    if isinstance(u, Symbol):
        return u.graph.apply(operation, u)
    y: Tensor = _StraightThrough.apply(u, operation)  # type: ignore[no-untyped-call]
    return y
