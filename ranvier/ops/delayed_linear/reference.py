"""A delayed linear layer in plain torch: a matrix product for each delay."""

import torch
from torch import Tensor

from ranvier.ops.delayed_linear.shapes import Kind, spread


def delayed_linear(
    x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, kind: Kind, longest: int, lead: int, tail: int
) -> Tensor:
    """As `ranvier.ops.delayed_linear.delayed_linear`."""
    kernel = weight.unsqueeze(-1) * spread(delay, sigma, kind, longest)
    steps = len(x) + tail - lead
    nothing = x.new_zeros(1, *x.shape[1:])
    line = torch.cat([nothing.expand(longest, *x.shape[1:]), x, nothing.expand(tail, *x.shape[1:])])
    y = x.new_zeros(steps, x.shape[1], weight.shape[0])
    for lag in range(longest + 1):
        start = longest + lead - lag
        y = y + line[start : start + steps] @ kernel[..., lag].T
    return y
