"""Mean and variance of each channel of [T, B, C, ...], and lines of each channel added in place: what a batch norm needs.

In forward the moments; in backward, where mean and variance are x's own, their share of its gradient, which is a line in x.
"""

from torch import Tensor

from ranvier.compile.plan import _interpreting, by_rows
from ranvier.compile.scan import wants_reference
from ranvier.ops.channel_moments import reference


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (of the values themselves, not of a population) of each channel of x [T, B, C, ...]; no gradient.

    Output: [C] each, float32, or float64 for float64 input.

    >>> import torch
    >>> channel_moments(torch.tensor([[[1.0, 2.0]], [[3.0, 2.0]]]))
    (tensor([2., 2.]), tensor([1., 0.]))
    """
    x = x.detach()
    x = _channels_last(x) if _lie_last(x) else by_rows(x)
    if len(x) > 1 and x.stride(0) == 0:
        x = x[:1]  # one step repeated
    if not wants_reference() and x.numel():
        if x.device.type == "cpu" and not _interpreting():
            from ranvier.ops.channel_moments import cpu

            if cpu.takes(x):
                return cpu.channel_moments(x)
        elif x.device.type == "cuda":
            from ranvier.ops.channel_moments import gpu

            return gpu.channel_moments(x)
    return reference.channel_moments(x)


def add_lines_(g: Tensor, x: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
    """g += offset + slope x, in place, with one line for each channel of [T, B, C, ...].

    >>> import torch
    >>> g, x = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 2.0]]])
    >>> add_lines_(g, x, torch.tensor([1.0, 0.0]), torch.tensor([2.0, 3.0]))
    tensor([[[3., 6.]]])
    """
    if _lie_last(g) and _lie_last(x):
        add_lines_(_channels_last(g), _channels_last(x), offset, slope)
        return g
    if not wants_reference() and g.is_contiguous() and g.numel():
        if g.device.type == "cpu" and not _interpreting():
            from ranvier.ops.channel_moments import cpu

            if cpu.takes(g) and cpu.takes(x):
                return cpu.add_lines_(g, by_rows(x), offset, slope)
        elif g.device.type in ("cpu", "cuda"):
            from ranvier.ops.channel_moments import gpu

            return gpu.add_lines_(g, by_rows(x), offset, slope)
    return reference.add_lines_(g, x, offset, slope)


def _lie_last(x: Tensor) -> bool:
    """Whether channels are the last axis in memory."""
    return x.ndim > 3 and not x.is_contiguous() and x.movedim(2, -1).is_contiguous()


def _channels_last(x: Tensor) -> Tensor:
    """x so, seen as one step [1, N, C]."""
    return x.movedim(2, -1).flatten(0, -2)[None]
