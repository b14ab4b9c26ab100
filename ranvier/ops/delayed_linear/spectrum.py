"""Gradients of a delayed linear layer by frequencies: their cost does not depend on the number of taps.

A correlation over time is a product for each frequency. The few frequencies that a stretch of time needs are found by
matrix products with sines and cosines, which on these sizes is as fast as a fast Fourier transform, and bound to no
length. Real and imaginary parts are separate: (C, S) stand for C - iS.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import pi

import torch
from torch import Tensor

from ranvier.compile import buffers

SLICE, SLICE_GPU = 1 << 22, 1 << 28
"""Numbers of a slice of the kernel's spectrum: on a CPU it stays in the last cache."""
STRETCH = 256
"""Steps that one transform covers, or three times the kernel's length where that is more."""


@dataclass(frozen=True)
class _Waves:
    to: Tensor
    """to (C, S, -C) from the steps of a stretch, [(frequency, part), step]"""
    to_kernel: Tensor
    """to (C, S) from the lags"""
    back: Tensor
    """from (Re, -Im) [step, (frequency, part)]"""
    back_apart: Tensor
    """the same for [step, (part, frequency)]"""


@lru_cache(64)
def _waves(length: int, lags: int, device: torch.device) -> _Waves:
    step = torch.arange(length, dtype=torch.float64)
    number = length // 2 + 1
    angle = 2 * pi / length * (torch.arange(number, dtype=torch.float64).outer(step) % length)
    c, s = angle.cos(), angle.sin()
    often = torch.full((number, 1), 2.0 / length, dtype=torch.float64)
    often[0] /= 2
    if length % 2 == 0:
        often[-1] /= 2
    to = torch.stack([c, s, -c], 1).flatten(0, 1)
    to_kernel = torch.stack([c, s], 1).flatten(0, 1)[:, :lags]
    back = torch.stack([often * c, often * s])
    made = to, to_kernel, back.transpose(0, 1).flatten(0, 1).T, back.flatten(0, 1).T
    return _Waves(*(m.to(device, torch.float32).contiguous() for m in made))


def backward(
    gy: Tensor, kernel: Tensor | None, x: Tensor | None, lags: int, lead: int, steps: int
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x [steps, B, I] from the kernel [lags, O, I], and of the kernel from x, whichever are given.

    gx[t] = sum over lag of gy[t + lag - lead] kernel[lag];  gkernel[lag] = sum over t of gy[t + lag - lead]^T x[t].
    """
    stretches = -(-steps // max(STRETCH, 3 * lags))
    each = -(-steps // stretches)
    length = each + lags - 1
    waves = _waves(length, lags, gy.device)
    samples, outputs = gy.shape[1:]
    seen = _transformed(waves.to, gy, lead, stretches, each).view(-1, 3, stretches * samples, outputs)
    gx = None if kernel is None else _gx(waves, seen, kernel, stretches, each, steps)
    gkernel = None if x is None else _gkernel(waves, seen, x, stretches, each, lags)
    return gx, gkernel


def _gx(waves: _Waves, seen: Tensor, kernel: Tensor, stretches: int, each: int, steps: int) -> Tensor:
    number, _, rows, outputs = seen.shape
    lags, _, inputs = kernel.shape
    sums = _empty(seen, number, 2 * rows, inputs)
    part = _part(seen, 2 * number * inputs)
    room = _empty(seen, 2 * number * min(part, outputs) * inputs)
    for o in range(0, outputs, part):
        some = min(part, outputs - o)
        spectrum = room[: 2 * number * some * inputs].view(2 * number, some * inputs)
        torch.mm(waves.to_kernel, kernel[:, o : o + some].reshape(lags, -1), out=spectrum)
        for k in range(2):
            met = seen[:, k : k + 2, :, o : o + some].reshape(number, 2 * rows, some)
            sums.baddbmm_(met, spectrum.view(number, 2, some, inputs)[:, k], beta=0 if o == k == 0 else 1)
    samples = rows // stretches
    whole = _empty(seen, each, rows * inputs)
    torch.mm(waves.back[:each], sums.view(2 * number, -1), out=whole)
    if stretches == 1:
        return whole.view(each, samples, inputs)
    return whole.view(each, stretches, samples, inputs).transpose(0, 1).reshape(-1, samples, inputs)[:steps]


def _gkernel(waves: _Waves, seen: Tensor, x: Tensor, stretches: int, each: int, lags: int) -> Tensor:
    number, _, rows, outputs = seen.shape
    inputs = x.shape[2]
    to = waves.to.view(number, 3, -1)[:, :2, :each].reshape(2 * number, each)
    spikes = _transformed(to, x, 0, stretches, each).view(number, 2 * rows, inputs)
    gkernel = _empty(seen, lags, outputs, inputs)
    part = _part(seen, 2 * number * inputs)
    for o in range(0, outputs, part):
        some = min(part, outputs - o)
        sums = _empty(seen, 2, number, some, inputs)
        for k in range(2):
            met = seen[:, k : k + 2, :, o : o + some].reshape(number, 2 * rows, some)
            torch.bmm(met.transpose(1, 2), spikes, out=sums[k])
        gkernel[:, o : o + some] = (waves.back_apart[:lags] @ sums.view(2 * number, -1)).view(lags, some, inputs)
    return gkernel


def _part(like: Tensor, each: int) -> int:
    return max(1, (SLICE if like.device.type == "cpu" else SLICE_GPU) // each)


def _empty(like: Tensor, *shape: int) -> Tensor:
    return buffers.empty(shape, torch.float32) if like.device.type == "cpu" else like.new_empty(shape)


def _transformed(to: Tensor, x: Tensor, front: int, stretches: int, each: int) -> Tensor:
    """x [T, B, C] after `front` zeros, in stretches that begin every `each` steps: [(frequency, part), stretches B C]."""
    length = to.shape[1]
    if stretches == 1:
        some = min(len(x), length - front)
        line, to = x[:some].reshape(some, x[0].numel()), to[:, front : front + some]
    else:
        whole = x.new_zeros((stretches - 1) * each + length, *x.shape[1:])
        some = min(len(x), len(whole) - front)
        whole[front : front + some] = x[:some]
        line = whole.unfold(0, length, each).permute(3, 0, 1, 2).reshape(length, -1)
    result = _empty(x, len(to), line.shape[1])
    return torch.mm(to, line, out=result)
