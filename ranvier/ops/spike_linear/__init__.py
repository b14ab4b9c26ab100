"""All-to-all synapses on spikes: sums of the weights of active inputs where they are few, a dense product where they are many."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.ops.precision import output_dtype
from ranvier.ops.spike_linear import reference
from ranvier.ops.spike_linear.crossover import crossovers
from ranvier.ops.spike_pack import DTYPES, Packed, indices, on_cpu, pack, unpack
from ranvier.ops.spike_pack.kinds import are_spikes, graded, not_spikes
from ranvier.ops.spike_pack.spikes import Spikes

SMALL = 1 << 20
"""Products in a call below which looking for spikes takes longer than computing with them."""


@dataclass(frozen=True, eq=False)
class _Input:
    """Spikes as kernels take them; what is kept for backward, too."""

    rows: int
    inputs: int
    active: int
    packed: Packed | None = None
    """bits, of spikes that are all one"""
    pointer: Tensor | None = None
    index: Tensor | None = None
    values: Tensor | None = None

    @property
    def density(self) -> float:
        return self.active / max(self.rows * self.inputs, 1)

    def listed(self) -> "_Input":
        """With indices."""
        if self.pointer is not None:
            return self
        assert self.packed is not None
        pointer, index = indices(self.packed)
        return replace(self, pointer=pointer, index=index)

    def dense(self, dtype: torch.dtype) -> Tensor:
        if self.packed is not None:
            return unpack(self.packed, dtype).view(self.rows, self.inputs)
        assert self.pointer is not None and self.index is not None
        shape = torch.Size((self.rows, 1, self.inputs))
        return Spikes(self.pointer, self.index, shape, self.values).dense(dtype)[:, 0]

    def smaller(self) -> "_Input":
        """With bits or indices alone, whichever takes less memory."""
        if self.packed is None or self.index is None:
            return self
        assert self.pointer is not None
        if 4 * len(self.index) + 8 * len(self.pointer) < 8 * self.packed.words.numel():
            return replace(self, packed=None)
        return replace(self, pointer=None, index=None)


def spike_linear(
    x: Tensor | Spikes, weight: Tensor, bias: Tensor | None = None, declared: bool = False, name: str = "spike_linear"
) -> Tensor:
    """y = x W' + b for x [..., I] of spikes: zeros and ones, or small whole numbers; W [O, I].

    Spikes are detected, and other input takes torch's way; `declared` refuses it instead.

    >>> spike_linear(torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[4.]])
    """
    if isinstance(x, Spikes):
        if declared and x.values is not None:
            raise not_spikes(name, x.values)
        if _plain() or not on_cpu(x.index):
            return reference.spike_linear(x.dense(weight.dtype), weight, bias)
        given = _Input(x.shape[0] * x.shape[1], x.shape[2], len(x.index), None, x.pointer, x.index, x.values)
        y: Tensor = _Function.apply(None, weight, bias, given, output_dtype(weight))  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:2], len(weight))
    if (
        _plain()
        or x.dtype not in DTYPES
        or x.device.type not in ("cpu", "cuda")
        or x.numel() * len(weight) < SMALL
        or not x.numel()
    ):
        if declared and not torch.compiler.is_compiling() and not are_spikes(x):
            raise not_spikes(name, x)
        return reference.spike_linear(x, weight, bias)
    found = _detected(x, declared, name)
    if found is None:
        return reference.spike_linear(x, weight, bias)
    y = _Function.apply(x, weight, bias, found, output_dtype(x))  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], len(weight))


def _plain() -> bool:
    return torch.compiler.is_compiling() or wants_reference()


def _detected(x: Tensor, declared: bool, name: str) -> _Input | None:
    """The spikes in x; None where there are other numbers in it."""
    inputs = x.shape[-1]
    rows = x.numel() // inputs
    if on_cpu(x):
        packed, binary = pack(x, inputs)
        assert packed.counts is not None
        active = int(packed.counts.sum())
    else:
        packed, binary = pack(x)
        active = rows * inputs  # not counted: a GPU always takes the dense product
    if binary:
        return _Input(rows, inputs, active, packed)
    if declared:
        raise not_spikes(name, x)
    whole = graded(x) if packed.counts is not None else None
    if whole is None:
        return None
    pointer, index = indices(packed)
    values = whole[whole != 0]
    return _Input(rows, inputs, active, None, pointer, index, values)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor | None, weight: Tensor, bias: Tensor | None, given: _Input, dtype: torch.dtype
    ) -> Tensor:
        number = torch.float64 if weight.dtype == dtype == torch.float64 else torch.float32
        w, b = weight.detach().to(number), None if bias is None else bias.detach().to(number)
        sparse = on_cpu(weight)
        limits = crossovers(given.rows, given.inputs, len(weight), number) if sparse else None
        if limits is not None and given.density <= limits.forward:
            given = given.listed()
            assert given.pointer is not None and given.index is not None
            from ranvier.ops.spike_linear import cpu

            y = cpu.forward(given.pointer, given.index, given.values, w, b).to(dtype)
        else:
            with torch.autocast(weight.device.type, enabled=False):
                rows = given.dense(dtype) if x is None else x.detach().reshape(given.rows, given.inputs).to(dtype)
                y = torch.nn.functional.linear(
                    rows, weight.detach().to(dtype), None if bias is None else bias.to(dtype)
                )
        kept = given.smaller()
        tensors = (weight, kept.pointer, kept.index, kept.values, *(kept.packed or ())[:2])
        ctx.save_for_backward(*tensors)
        ctx.given = replace(kept, pointer=None, index=None, values=None, packed=None)
        ctx.number, ctx.shape, ctx.limits = number, None if x is None else (x.shape, x.dtype), limits
        ctx.bias = None if bias is None else bias.dtype
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, pointer, index, values, *bits = ctx.saved_tensors
        packed = None
        if bits:
            words, counts = bits
            rows = ctx.given
            width = rows.inputs if counts is not None else 64
            packed = Packed(words, counts, width, rows.rows * rows.inputs)
        given = replace(ctx.given, pointer=pointer, index=index, values=values, packed=packed)
        gx = gw = gb = None
        if ctx.needs_input_grad[0]:
            shape, dtype = ctx.shape
            gx = (grad @ weight.to(grad.dtype)).to(dtype).view(shape)
        if ctx.needs_input_grad[1]:
            gw = _weight_gradient(given, grad, ctx.number, ctx.limits).to(weight.dtype)
        if ctx.needs_input_grad[2]:
            gb = grad.sum(0, dtype=ctx.number).to(ctx.bias)
        return gx, gw, gb, None, None


def _weight_gradient(given: _Input, grad: Tensor, number: torch.dtype, limits: Any) -> Tensor:
    if limits is not None and given.density <= limits.weight:
        from ranvier.ops.spike_linear import cpu

        given = given.listed()
        assert given.pointer is not None and given.index is not None
        return cpu.weight_gradient(given.pointer, given.index, given.values, grad.to(number), given.inputs)
    return grad.t() @ given.dense(grad.dtype)
