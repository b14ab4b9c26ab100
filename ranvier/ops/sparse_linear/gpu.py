"""Sparse synapses as torch's own sparse products, which a GPU's library computes."""

import torch
from torch import Tensor


def product(pointer: Tensor, index: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """[R, O] from x [R, I]: the sum of values times x over each neuron's synapses."""
    weight = _csr(pointer, index, values, x.shape[1])
    return (weight @ x.t().contiguous()).t()


def values_gradient(pointer: Tensor, index: Tensor, x: Tensor, grad: Tensor) -> Tensor:
    """[synapses]: the sum over all rows of x [R, I] times grad [R, O], at each synapse."""
    pattern = _csr(pointer, index, grad.new_zeros(len(index)), x.shape[1])
    found: Tensor = torch.sparse.sampled_addmm(pattern, grad.t().contiguous(), x.contiguous()).values()
    return found


def _csr(pointer: Tensor, index: Tensor, values: Tensor, inputs: int) -> Tensor:
    shape = (len(pointer) - 1, inputs)
    return torch.sparse_csr_tensor(pointer, index.to(torch.int64), values, shape, check_invariants=False)
