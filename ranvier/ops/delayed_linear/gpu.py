"""A delayed linear layer on a GPU: one product that runs over lags and channels, and gradients by frequencies.

Nothing waits for the GPU or depends on values, so that a CUDA graph can hold it. Input of 16 bits meets weights rounded to
its dtype, as in torch's own convolutions, and float32 is rounded as they do it; sums are float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor
from torch.nn import functional

from ranvier.ops.delayed_linear import blocks, spectrum
from ranvier.ops.delayed_linear.shapes import EPSILON, LEAST

if TYPE_CHECKING:
    from ranvier.ops.delayed_linear import Window

_BLOCK, _ROWS = 256, 128
"""Synapses of one instance of the kernels on taps, and rows of a tile of the product."""
_KINDS = {"gaussian": 0, "triangle": 1, "rounded": 2}


def forward(
    window: "Window", x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, needed: bool
) -> tuple[Tensor, list[Tensor]]:
    """The output, and what backward needs beside the parameters: x, its channels made up to a multiple of 16."""
    x = _filled(x.detach())
    y = x.new_empty(len(x) + window.tail - window.lead, x.shape[1], len(weight))
    if not (x.numel() and y.numel()):
        return y.zero_(), []
    kernel = _kernel(window, weight, delay, sigma, x.dtype, x.shape[2])
    _product(x, kernel, y, window.lead)
    return y, [x]


def backward(
    window: "Window",
    steps: int,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    kept: list[Tensor],
    gy: Tensor,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and delay."""
    gy, weight, delay = gy.contiguous(), weight.detach().contiguous(), delay.detach().contiguous()
    gx = gweight = gdelay = None
    if not kept:
        gx = gy.new_zeros(steps, gy.shape[1], weight.shape[1]) if needs_x else None
        return gx, *((torch.zeros_like(weight), torch.zeros_like(delay)) if needs_weight else (None, None))
    (x,) = kept
    kernel = _kernel(window, weight, delay, sigma, torch.float32, x.shape[2]) if needs_x else None
    with _rounding_as_convolutions():
        seen = x.float() if needs_weight else None
        found, gkernel = spectrum.backward(gy.float(), kernel, seen, window.longest + 1, window.lead, steps)
    if found is not None:
        gx = found[..., : weight.shape[1]].to(x.dtype)
    if gkernel is not None:
        gweight, gdelay = torch.empty_like(weight), torch.empty_like(delay)
        blocks.gradients[(triton.cdiv(weight.numel(), _BLOCK),)](
            *(weight, delay, sigma, gkernel, gweight, gdelay, weight.numel(), weight.shape[1], len(gkernel)),
            *(*gkernel.stride()[:2], _KINDS[window.kind], LEAST, EPSILON, _BLOCK),
        )
    return gx, gweight, gdelay


def _filled(x: Tensor) -> Tensor:
    """x [T, B, C], in row-major order, with zeros up to a multiple of 16 channels: rows that begin anywhere load slowly."""
    return functional.pad(x, (0, -x.shape[2] % 16)).contiguous()


def _kernel(window: "Window", weight: Tensor, delay: Tensor, sigma: Tensor, dtype: torch.dtype, width: int) -> Tensor:
    """The matrix of each lag, [longest + 1, O, width], with zeros beyond the inputs."""
    weight, delay = weight.detach().contiguous(), delay.detach().contiguous()
    outputs, inputs = weight.shape
    make = torch.empty if width == inputs else torch.zeros
    kernel = make(window.longest + 1, outputs, width, dtype=dtype, device=weight.device)
    blocks.spread[(triton.cdiv(weight.numel(), _BLOCK),)](
        *(weight, delay, sigma, kernel, weight.numel(), inputs, window.longest + 1, *kernel.stride()[:2]),
        *(_KINDS[window.kind], LEAST, EPSILON, _BLOCK),
    )
    return kernel


def _product(x: Tensor, kernel: Tensor, out: Tensor, lead: int) -> None:
    """out[t] = sum over lags k of x[t + lead - k] kernel[k]^T."""
    samples, channels = x.shape[1:]
    rows, columns = out.shape[0] * samples, out.shape[2]
    half = x.dtype != torch.float32
    exact = not half and not torch.backends.cudnn.allow_tf32
    across = next(n for n in (32, 64, 128, 256) if n >= min(columns, 128 if exact else 256))
    blocks.product[(triton.cdiv(rows, _ROWS) * triton.cdiv(columns, across),)](
        *(x, kernel, out, rows, len(x) * samples, columns, channels, len(kernel), lead * samples, samples),
        *(*kernel.stride()[:2], _ROWS, across, 64 if half else 32, "ieee" if exact else "tf32"),
        num_warps=8 if across >= 128 else 4,
        num_stages=3,
    )


@contextmanager
def _rounding_as_convolutions() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
