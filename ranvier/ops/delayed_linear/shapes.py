"""How a delay that is no whole number spreads over whole ones: the shapes of a spike's arrival."""

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["gaussian", "triangle", "rounded"]
KINDS: tuple[Kind, ...] = ("gaussian", "triangle", "rounded")
LEAST = 0.27
"""What a Gaussian's width has beside sigma, so that it never shrinks to nothing."""
EPSILON = 1e-7
"""What a sum that normalises has beside its terms."""


def gaussian(distance: Tensor, sigma: Tensor) -> Tensor:
    """exp(-(distance / (|sigma| + 0.27))^2 / 2)."""
    return torch.exp(-0.5 * (distance / (sigma.abs() + LEAST)).square())


def triangle(distance: Tensor, sigma: Tensor) -> Tensor:
    """max(0, 1 + |sigma| - |distance|)."""
    return (1 + sigma.abs() - distance.abs()).clamp(min=0)


def between(place: Tensor, cells: int) -> Tensor:
    """Linear interpolation: two of `cells` neighbours share a place in [0, cells - 1] by how near it lies.

    The cells are the last axis. At a whole number the gradient is that towards the right, at the last cell that towards
    the left.
    """
    first = place.detach().floor().clamp(max=max(cells - 2, 0))
    part = (place - first).unsqueeze(-1)
    offset = torch.arange(cells, device=place.device, dtype=place.dtype) - first.unsqueeze(-1)
    nothing = torch.zeros((), device=place.device, dtype=place.dtype)
    return torch.where(offset == 0, 1 - part, nothing) + torch.where(offset == 1, part, nothing)


def nearest(place: Tensor, cells: int) -> Tensor:
    """One of `cells`, the nearest; the gradient is that of linear interpolation."""
    smooth = between(place, cells)
    at = torch.arange(cells, device=place.device, dtype=place.dtype)
    hard = (at == place.detach().round().unsqueeze(-1)).to(place.dtype)
    return hard + (smooth - smooth.detach())


def spread(delay: Tensor, sigma: Tensor, kind: Kind, longest: int) -> Tensor:
    """How much of a spike arrives after 0, 1, ... `longest` steps: delays [...] give [..., longest + 1]."""
    if kind == "triangle":
        return between(delay, longest + 1)
    if kind == "rounded":
        return nearest(delay, longest + 1)
    lag = torch.arange(longest + 1, device=delay.device, dtype=delay.dtype)
    g = gaussian(lag - delay.unsqueeze(-1), sigma)
    return g / (g.sum(-1, keepdim=True) + EPSILON)
