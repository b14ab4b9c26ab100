"""Convolution of spikes: sums over active indices where they are few, torch's where they are many; backward keeps bits."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ranvier.compile.scan import wants_reference
from ranvier.ops.precision import output_dtype
from ranvier.ops.spike_conv import reference
from ranvier.ops.spike_conv.crossover import crossovers
from ranvier.ops.spike_conv.window import Window, size_after
from ranvier.ops.spike_pack import DTYPES, FLAT, Packed, indices, on_cpu, pack, unpack
from ranvier.ops.spike_pack.kinds import are_spikes, graded, not_spikes


def spike_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    window: Window = Window(),
    declared: bool = False,
    name: str = "spike_conv",
) -> Tensor:
    """torch's conv2d of x [N, C, H, W], of which zeros and ones are kept as bits, whole numbers up to 127 as bytes.

    Spikes are detected, and other input is kept as it is; `declared` refuses it instead.

    >>> spike_conv(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
    4.0
    """
    compiling = torch.compiler.is_compiling()
    learnt = torch.is_grad_enabled() and weight.requires_grad
    plain = compiling or wants_reference() or x.dtype not in DTYPES or x.device.type not in ("cpu", "cuda")
    if plain or not x.numel():
        if declared and not compiling and not are_spikes(x):
            raise not_spikes(name, x)
        return reference.spike_conv(x, weight, bias, *window)
    listed = _can_be_listed(x, window)
    if not (learnt or declared or listed):
        return reference.spike_conv(x, weight, bias, *window)
    axes = (0, 2, 3, 1) if listed else _order(x)
    rows = x.permute(axes)
    if not rows.is_contiguous():
        axes, rows = tuple(range(x.ndim)), x.contiguous()
    packed, binary = pack(rows, x.shape[1] if listed else FLAT)
    if declared and not binary:
        raise not_spikes(name, x)
    kept: Packed | Tensor | None = packed if binary else graded(rows) if learnt else None
    if kept is None or not (learnt or listed):
        return reference.spike_conv(x, weight, bias, *window)
    y: Tensor = _Convolution.apply(x, weight, bias, window, kept, axes, rows.shape)  # type: ignore[no-untyped-call]
    return y


def _can_be_listed(x: Tensor, window: Window) -> bool:
    """Whether each pixel's channels lie together, in words that are at least half full."""
    channels = x.shape[1]
    together = x.is_contiguous(memory_format=torch.channels_last) and 2 * channels >= 64 * -(-channels // 64)
    return together and window.groups == 1 and on_cpu(x)


def _order(x: Tensor) -> tuple[int, ...]:
    """Axes from the outermost in memory to the innermost."""
    return tuple(sorted(range(x.ndim), key=lambda i: -x.stride()[i]))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        window: Window,
        kept: Packed | Tensor,
        axes: tuple[int, ...],
        shape: torch.Size,
    ) -> Tensor:
        ctx.window, ctx.axes, ctx.shape, ctx.dtype = window, axes, shape, x.dtype
        ctx.width = None if isinstance(kept, Tensor) else (kept.width, kept.number)
        ctx.bias = None if bias is None else bias.dtype
        ctx.sparse = False
        if isinstance(kept, Tensor):
            ctx.save_for_backward(weight, kept)
            return functional.conv2d(x, weight, bias, *window)
        sparse, after = False, size_after(x.shape, weight.shape, window)
        if kept.counts is not None and kept.width == x.shape[1] and _can_be_listed(x, window):
            density = int(kept.counts.sum()) / kept.number
            limits = crossovers(len(x) * after[0] * after[1], weight.shape, output_dtype(x))
            sparse, ctx.sparse = density <= limits.forward, density <= limits.weight
        ctx.save_for_backward(weight, kept.words, kept.counts if ctx.sparse else None)
        if not sparse:
            return functional.conv2d(x, weight, bias, *window)
        from ranvier.ops.spike_conv import cpu

        lists = cpu.windows(*indices(kept), x.shape, weight.shape, window)
        return cpu.forward(lists, weight, bias, torch.Size((len(x), len(weight), *after))).to(output_dtype(x))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, kept, *counts = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.window
        mask = list(ctx.needs_input_grad[:3])
        back = [ctx.axes.index(i) for i in range(len(ctx.axes))]
        listed = None
        if ctx.sparse and mask[1]:
            from ranvier.ops.spike_conv import cpu

            packed, shape = Packed(kept, counts[0], *ctx.width), torch.Size([ctx.shape[i] for i in back])
            lists = cpu.windows(*indices(packed), shape, weight.shape, ctx.window)
            listed, mask[1] = cpu.weight_gradient(lists, grad, weight), False
        if not mask[1]:
            rows = grad.new_empty(ctx.shape)  # only its sizes and layout count
        elif ctx.width is None:
            rows = kept.to(grad.dtype)
        else:
            rows = unpack(Packed(kept, None, *ctx.width), grad.dtype).view(ctx.shape)
        sizes = None if ctx.bias is None else [len(weight)]
        gx, gw, gb = torch.ops.aten.convolution_backward(
            grad,
            rows.permute(back),
            weight.to(grad.dtype),
            sizes,
            *(stride, padding, dilation, False, [0, 0], groups, mask),
        )
        gw = gw if listed is None else listed
        gx = None if gx is None else gx.to(ctx.dtype)
        gb = None if gb is None else gb.to(ctx.bias)
        return gx, None if gw is None else gw.to(weight.dtype), gb, None, None, None, None
