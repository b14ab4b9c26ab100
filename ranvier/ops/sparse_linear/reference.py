"""Synapses that are there on a fixed pattern alone, as a matrix with zeros."""

import torch
from torch import Tensor
from torch.nn import functional


def sparse_linear(x: Tensor, row: Tensor, index: Tensor, values: Tensor, outputs: int, bias: Tensor | None) -> Tensor:
    """y = x W' + b, W [O, I] with `values` at (row, index) and zeros elsewhere."""
    weight = torch.zeros(outputs, x.shape[-1], dtype=values.dtype, device=values.device)
    return functional.linear(x, weight.index_put((row, index.long()), values), bias)
