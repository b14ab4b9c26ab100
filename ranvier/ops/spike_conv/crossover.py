"""The density above which torch's convolution is faster than sums over active indices: measured once, kept on disk."""

import os
from functools import cache

import torch

from ranvier.ops.spike_conv.window import Window
from ranvier.ops.spike_linear.crossover import (
    DENSE,
    DENSITIES,
    LARGEST,
    WORTH,
    Case,
    Crossover,
    both,
    remembered,
    size_class,
)

_SIDE = 16
"""Pixels on a side of the picture that is measured on."""
_SAMPLE = 1 << 28
"""Products that are measured on."""
DEFAULTS = {torch.bfloat16: Crossover(0.1, 0.1)}
DEFAULT = Crossover(0.2, 0.2)
"""Where nothing is measured. On CPUs with vectors of 512 bits 0.3 was found for float32, 0.13 for bfloat16."""


def crossovers(pixels: int, weight: torch.Size, dtype: torch.dtype) -> Crossover:
    """That of this machine for a kernel [O, C, h, w], as `spike_linear.crossover` has it for all-to-all layers."""
    outputs, channels, height, width = weight
    default = DEFAULTS.get(dtype, DEFAULT)
    if pixels * weight.numel() < WORTH or torch.are_deterministic_algorithms_enabled():
        return default
    sizes = (min(outputs, LARGEST), min(channels, LARGEST), height, width)
    name = str(dtype).removeprefix("torch.")
    return _known(torch.get_num_threads(), sizes, name, os.environ.get("RANVIER_CACHE")) or default


@cache
def _known(threads: int, sizes: tuple[int, int, int, int], dtype: str, place: str | None) -> Crossover | None:
    outputs, channels, height, width = sizes
    key = f"conv {size_class(channels)} to {size_class(outputs)}, {height} x {width}, {dtype}, {threads} threads"
    return remembered(key, lambda: measured(sizes, getattr(torch, dtype)))


def measured(sizes: tuple[int, int, int, int], dtype: torch.dtype) -> Crossover | None:
    """The crossover of a kernel [O, C, h, w] with channels last; None where the times are too unsteady to tell."""
    from ranvier.ops.spike_conv import cpu
    from ranvier.ops.spike_pack import indices, pack, unpack

    _, channels, *kernel = sizes
    generator = torch.Generator().manual_seed(0)
    last = torch.channels_last
    number = min(max(_SAMPLE // (_SIDE**2 * torch.Size(sizes).numel()), 1), 64)
    shape = torch.Size((number, channels, _SIDE, _SIDE))
    window = Window(padding=(kernel[0] // 2, kernel[1] // 2))
    weight = torch.randn(sizes, generator=generator).to(dtype).contiguous(memory_format=last)
    inputs = {
        d: (torch.rand(shape, generator=generator) < d).to(dtype).contiguous(memory_format=last) for d in DENSITIES
    }
    packed = {d: pack(x.permute(0, 2, 3, 1), channels)[0] for d, x in inputs.items()}
    x, bits = inputs[DENSITIES[0]], packed[DENSITIES[0]]
    with torch.autocast("cpu", enabled=False):

        def dense() -> torch.Tensor:
            return torch.nn.functional.conv2d(x, weight, None, *window)

        grad = torch.randn(dense().shape, generator=generator).to(dtype).contiguous(memory_format=last)

        def dense_back() -> torch.Tensor:
            again = unpack(bits, dtype).view(number, _SIDE, _SIDE, channels).permute(0, 3, 1, 2)
            mask, (stride, padding, dilation, groups) = [False, True, False], window
            found: torch.Tensor = torch.ops.aten.convolution_backward(
                grad, again, weight, None, stride, padding, dilation, False, [0, 0], groups, mask
            )[1]
            return found

        forward: dict[float, Case] = {DENSE: dense}
        backward: dict[float, Case] = {DENSE: dense_back}
        for d, p in packed.items():

            def lists(p=p):  # type: ignore[no-untyped-def]
                return cpu.windows(*indices(p), shape, weight.shape, window)

            forward[d] = lambda lists=lists: cpu.forward(lists(), weight, None, grad.shape).to(dtype)  # type: ignore[misc]
            backward[d] = lambda lists=lists: cpu.weight_gradient(lists(), grad, weight).to(dtype)  # type: ignore[misc]
        return both(forward, backward)
