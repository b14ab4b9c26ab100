"""Moments of channels and lines through them, in plain torch."""

import torch
from torch import Tensor

from ranvier.core.state import state_dtype


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    others = [axis for axis in range(x.ndim) if axis != 2]
    var, mean = torch.var_mean(x.to(state_dtype(x)), others, correction=0)
    return mean, var


def add_lines_(g: Tensor, x: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
    shape = (-1, *[1] * (g.ndim - 3))
    wide = state_dtype(g)
    line = x.to(wide) * slope.to(wide).reshape(shape) + offset.to(wide).reshape(shape)
    return g.copy_(g.to(wide) + line)
