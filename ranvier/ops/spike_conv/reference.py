"""Convolution in plain torch."""

from torch import Tensor
from torch.nn import functional


def spike_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """torch's conv2d."""
    return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
