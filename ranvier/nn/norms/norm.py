"""The base of the norms: a line for each channel, made from the mean and variance of all steps, samples and places."""

from abc import ABC, abstractmethod
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranvier.core.checks import Refusal
from ranvier.core.state import current, lengths_of, state_dtype
from ranvier.ops.channel_moments import channel_moments


class Statistics(NamedTuple):
    """Mean and variance of each channel, and what they are of."""

    mean: Tensor
    var: Tensor
    values: Tensor | int | None
    """Values of a channel; None for running statistics, through which no gradient passes."""
    real: Tensor | None
    """[T, B]: the steps that counted; None for all."""


class Norm(nn.Module, ABC):
    """A norm of one's own over the channels of [T, B, C, ...]: write `gain`.

    y = gain (x - mean) / sqrt(var + eps) + shift, where mean and var are those of all steps, samples and places in
    training, and running averages of them in evaluation.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, features: int | tuple[int, ...], *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        kind, shape = type(self).__name__, (features,) if isinstance(features, int) else tuple(features)
        if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
            raise Refusal(
                f"{kind}.features",
                expected="a positive number",
                got=repr(features),
                do="Give the number of channels, the size of axis 2.",
            )
        if not eps > 0:
            raise Refusal(f"{kind}.eps", expected="a positive number", got=repr(eps), do="The usual one is 1e-5.")
        if momentum is not None and not 0 <= momentum <= 1:
            raise Refusal(
                f"{kind}.momentum",
                expected="a number in [0, 1], or None for the mean of all batches",
                got=repr(momentum),
                do="It is the new batch's share of the running statistics.",
            )
        self.features, self.eps, self.momentum = shape, eps, momentum
        self.register_parameter("weight", nn.Parameter(torch.ones(shape)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(shape)) if affine else None)
        # named as torch's, so that weights can be carried over
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    @abstractmethod
    def gain(self) -> tuple[Tensor, Tensor]:
        """Gain and shift of what has been brought to mean 0 and variance 1."""

    def affine(self) -> tuple[Tensor, Tensor]:
        """The learnt weight and bias, or 1 and 0."""
        if self.weight is None or self.bias is None:
            return torch.ones_like(self.running_mean), torch.zeros_like(self.running_mean)
        return self.weight, self.bias

    def line(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, scale and shift in evaluation: y = scale (x - mean) + shift."""
        gain, shift = self.gain()
        return self.running_mean, gain * torch.rsqrt(self.running_var + self.eps), shift

    def statistics(self, x: Tensor) -> Statistics:
        """Those that x is to be normalised with, without a graph; in training the running ones take them in."""
        self.refuse_shape(x)
        if not self.training:
            return Statistics(self.running_mean, self.running_var, None, None)
        real = real_steps(x)
        with torch.no_grad():
            if real is None:
                count: Tensor | int = self.values(x)
                mean, var = channel_moments(x)
            else:
                count = real.sum() * prod(x.shape[3:])
                mean, var = masked_moments(x, real)
        self.remember(mean, var, count)
        return Statistics(mean, var, count, real)

    def forward(self, x: Tensor) -> Tensor:
        self.refuse_shape(x)
        return self.normalised(x, real_steps(x) if self.training else None)

    def normalised(self, x: Tensor, real: Tensor | None) -> Tensor:
        """y, with the statistics of the real steps [T, B] of x in training, where None stands for all."""
        wide, place = state_dtype(x), (*x.shape[:2], prod(self.features), *x.shape[2 + len(self.features) :])
        flat = x.reshape(place)
        gain, shift, mean, var = (v.reshape(-1) for v in (*self.gain(), self.running_mean, self.running_var))
        if real is None and mean.dtype == wide:
            # torch's own, to the bit
            if self.training:
                self.values(x)
            factor = self._factor() if self.training else 0.0
            again = self.training and _again()
            y = functional.batch_norm(
                flat.flatten(0, 1),
                None if again else mean,
                None if again else var,
                gain,
                shift,
                self.training,
                factor,
                self.eps,
            )
            return y.reshape(x.shape)
        if self.training:
            count = self.values(x) if real is None else real.sum() * prod(place[3:])
            real = real if real is not None else x.new_ones(x.shape[:2], dtype=torch.bool)
            mean, var = masked_moments(flat, real)
            self.remember(mean.detach(), var.detach(), count)
        mean, scale, shift = per_channel(flat, mean, gain * torch.rsqrt(var + self.eps), shift)
        return ((flat.to(wide) - mean) * scale + shift).to(x.dtype).reshape(x.shape)

    def remember(self, mean: Tensor, var: Tensor, count: Tensor | int) -> None:
        """Take a batch's statistics, of `count` values, into the running ones."""
        if _again():
            return
        share: Tensor | float = self._factor()
        if isinstance(count, Tensor):  # it may turn out to be 0
            share, count = share * (count > 0).to(mean.dtype), count.clamp(min=2)
        with torch.no_grad():
            for running, new in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
                running.lerp_(new.to(running.dtype).reshape(running.shape), share)

    def _factor(self) -> float:
        """The share of the batch at hand, which it counts."""
        if _again():
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    def values(self, x: Tensor) -> int:
        """How many values of x a channel has; one alone has no variance."""
        count = x.shape[0] * x.shape[1] * prod(x.shape[2 + len(self.features) :])
        if count < 2:
            raise Refusal(
                type(self).__name__,
                expected="at least two values of each channel in training",
                got=f"shape {tuple(x.shape)}",
                do="Give a larger batch, or call eval().",
            )
        return count

    def refuse_shape(self, x: Tensor) -> None:
        if x.ndim < 3 or x.shape[2 : 2 + len(self.features)] != self.features:
            raise Refusal(
                type(self).__name__,
                expected=f"[T, B, {', '.join(map(str, self.features))}, ...], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make features fit axis 2.",
            )
        if not x.is_floating_point():
            raise Refusal(
                type(self).__name__,
                expected="floating-point input",
                got=str(x.dtype),
                do="Convert it with x.float().",
            )

    def extra_repr(self) -> str:
        size = str(self.features[0]) if len(self.features) == 1 else str(self.features)
        return f"{size}, eps={self.eps:g}, momentum={self.momentum}" + (
            "" if self.weight is not None else ", affine=False"
        )


def per_channel(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Values [C] in the shape in which they meet x [T, B, C, ...]."""
    return tuple([v.reshape(-1, *[1] * (x.ndim - 3)) for v in values])


def real_steps(x: Tensor) -> Tensor | None:
    """[T, B]: the steps that are no padding, where the present run was told lengths."""
    carrier = current()
    if carrier is None or carrier.lengths is None:
        return None
    return torch.arange(len(x), device=x.device)[:, None] < lengths_of(x)


def masked_moments(x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over the real steps [T, B] of x."""
    others = [axis for axis in range(x.ndim) if axis != 2]
    mask = real.reshape(*real.shape, *[1] * (x.ndim - 2))
    count = (real.sum() * prod(x.shape[3:])).clamp(min=1)
    x = torch.where(mask, x, 0.0).to(state_dtype(x))  # what lies past the end may be NaN
    mean = x.sum(others) / count
    [centre] = per_channel(x, mean)
    return mean, torch.where(mask, x - centre, 0.0).square().sum(others) / count


def _again() -> bool:
    """Whether this is a forward pass computed again inside a backward pass: its batch has been counted."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0
