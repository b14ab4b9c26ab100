"""Pooling: over the picture at every step of [T, B, C, H, W], and over time."""

from torch import Tensor, nn
from torch.nn import functional

from ranvier.core.checks import Refusal
from ranvier.core.state import retime


class _Pool2d(nn.Module):
    def __init__(self, size: int, stride: int | None = None) -> None:
        super().__init__()
        self.size, self.stride = size, stride or size

    def folded(self, x: Tensor) -> Tensor:
        if x.ndim != 5:
            raise Refusal(
                type(self).__name__,
                expected="[T, B, C, H, W], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze.",
            )
        return x.flatten(0, 1)

    def extra_repr(self) -> str:
        return f"{self.size}, stride={self.stride}"


class AvgPool2d(_Pool2d):
    """Mean over windows: spikes become fractions, and what follows adds with multiplications.

    Input: [T, B, C, H, W]. Output: [T, B, C, H', W']. Raises: Refusal for another number of axes.

    >>> import torch
    >>> AvgPool2d(2)(torch.eye(2).reshape(1, 1, 1, 2, 2)).item()
    0.5
    """

    def forward(self, x: Tensor) -> Tensor:
        y = functional.avg_pool2d(self.folded(x), self.size, self.stride)
        return y.reshape(*x.shape[:2], *y.shape[1:])


class SumPool2d(_Pool2d):
    """Sum over windows: all spikes of a window on one wire, as neuromorphic chips pool.

    Input: [T, B, C, H, W]. Output: [T, B, C, H', W']. Raises: Refusal for another number of axes.

    >>> import torch
    >>> SumPool2d(2)(torch.eye(2).reshape(1, 1, 1, 2, 2)).item()
    2.0
    """

    def forward(self, x: Tensor) -> Tensor:
        y = functional.avg_pool2d(self.folded(x), self.size, self.stride, divisor_override=1)
        return y.reshape(*x.shape[:2], *y.shape[1:])


class MaxPool2d(_Pool2d):
    """Maximum over windows: of spikes, whether any neuron of the window fired.

    Input: [T, B, C, H, W]. Output: [T, B, C, H', W']. Raises: Refusal for another number of axes.

    >>> import torch
    >>> MaxPool2d(2)(torch.eye(2).reshape(1, 1, 1, 2, 2)).item()
    1.0
    """

    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(self.folded(x), self.size, self.stride)
        return y.reshape(*x.shape[:2], *y.shape[1:])


class TimePool(nn.Module):
    """Mean over runs of `size` steps: what follows sees time at a coarser grain.

    y[t] = (x[size t] + ... + x[size t + size - 1]) / size.

    Input: [T, B, ...]. Output: [T / size, B, ...].
    Raises: Refusal when T is no multiple of size, and for a size below 1.

    >>> import torch
    >>> TimePool(2)(torch.arange(4.0).reshape(4, 1, 1)).flatten()
    tensor([0.5000, 2.5000])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise Refusal("TimePool", expected="1 step or more", got=str(size), do="Give the steps to average.")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if len(x) % self.size:
            raise Refusal(
                "TimePool",
                expected=f"a multiple of {self.size} steps",
                got=f"{len(x)}",
                do="Cut the sequence, or the chunks of a stream, to such a multiple.",
            )
        retime(lambda lengths: lengths // self.size)
        return x.reshape(-1, self.size, *x.shape[1:]).mean(1)

    def extra_repr(self) -> str:
        return str(self.size)


class TimeRepeat(nn.Module):
    """Each step held for `size` steps: neurons get more steps for the same signal, and their rates a finer grain.

    y[size t + k] = x[t] for k = 0 ... size - 1.

    Input: [T, B, ...]. Output: [size T, B, ...]. Raises: Refusal for a size below 1.

    >>> import torch
    >>> TimeRepeat(2)(torch.arange(2.0).reshape(2, 1, 1)).flatten()
    tensor([0., 0., 1., 1.])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise Refusal("TimeRepeat", expected="1 step or more", got=str(size), do="Give how long a step is held.")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        retime(lambda lengths: lengths * self.size)
        return x.repeat_interleave(self.size, 0)

    def extra_repr(self) -> str:
        return str(self.size)
