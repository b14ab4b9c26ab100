"""Synapses on a fixed pattern: products and gradients at the synapses that are there, and nowhere else."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.ops.precision import output_dtype
from ranvier.ops.sparse_linear import reference
from ranvier.ops.spike_pack import on_cpu


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which synapses there are: by the neuron that they lead to, and turned round, by where they come from."""

    pointer: Tensor
    """[O + 1] int64: where each neuron's synapses begin"""
    index: Tensor
    """[synapses] int32: where each comes from"""
    row: Tensor
    """[synapses] int64: where each leads to"""
    back_pointer: Tensor
    """[I + 1] int64: where the synapses from each input begin in `order`"""
    back_index: Tensor
    """[synapses] int32: where they lead to"""
    order: Tensor
    """[synapses] int64: their numbers"""


def pattern(pointer: Tensor, index: Tensor, inputs: int) -> Pattern:
    """The pattern of a matrix in compressed sparse rows.

    >>> pattern(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 1], dtype=torch.int32), 2).order.tolist()
    [1, 0, 2]
    """
    row = torch.arange(len(pointer) - 1, device=index.device).repeat_interleave(pointer.diff())
    order = torch.argsort(index, stable=True)
    back = torch.zeros(inputs + 1, dtype=torch.int64, device=index.device)
    back[1:] = torch.bincount(index, minlength=inputs).cumsum(0)
    return Pattern(pointer, index, row, back, row[order].to(torch.int32), order)


def sparse_linear(x: Tensor, synapses: Pattern, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W' + b for x [..., I], W [O, I] with `values` [synapses] on its pattern.

    >>> synapses = pattern(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 1], dtype=torch.int32), 2)
    >>> sparse_linear(torch.tensor([[1.0, 10.0]]), synapses, torch.tensor([1.0, 2.0, 3.0]))
    tensor([[10., 32.]])
    """
    outputs = len(synapses.pointer) - 1
    dtype = output_dtype(x)
    plain = torch.compiler.is_compiling() or wants_reference() or x.device.type not in ("cpu", "cuda")
    number = torch.float64 if x.dtype == values.dtype == torch.float64 else torch.float32
    if plain or not x.numel() or not len(synapses.index):
        with torch.autocast(x.device.type, enabled=False):
            wide = None if bias is None else bias.to(number)
            found = reference.sparse_linear(
                x.to(number), synapses.row, synapses.index, values.to(number), outputs, wide
            )
        return found.to(dtype)
    rows = x.reshape(-1, x.shape[-1]).to(number)
    y: Tensor = _Function.apply(rows, values.to(number), synapses)  # type: ignore[no-untyped-call]
    if bias is not None:
        y = y + bias.to(number)
    return y.to(dtype).view(*x.shape[:-1], outputs)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, synapses: Pattern) -> Tensor:
        ctx.synapses = synapses
        ctx.save_for_backward(x, values)
        return _product(synapses.pointer, synapses.index, values.detach(), x.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, values = ctx.saved_tensors
        s = ctx.synapses
        gx = _product(s.back_pointer, s.back_index, values[s.order], grad) if ctx.needs_input_grad[0] else None
        gv = _values_gradient(s.pointer, s.index, x, grad) if ctx.needs_input_grad[1] else None
        return gx, gv, None


def _product(pointer: Tensor, index: Tensor, values: Tensor, x: Tensor) -> Tensor:
    if on_cpu(x):
        from ranvier.ops.sparse_linear import cpu

        return cpu.product(pointer, index, values.contiguous(), cpu.panels(x), len(x))
    from ranvier.ops.sparse_linear import gpu

    return gpu.product(pointer, index, values, x)


def _values_gradient(pointer: Tensor, index: Tensor, x: Tensor, grad: Tensor) -> Tensor:
    if on_cpu(x):
        from ranvier.ops.sparse_linear import cpu

        return cpu.values_gradient(pointer, index, cpu.panels(x), cpu.panels(grad))
    from ranvier.ops.sparse_linear import gpu

    return gpu.values_gradient(pointer, index, x, grad)
