"""Convolution over active indices on the CPU: the windows of a picture as lists of what is active in them.

With channels last a pixel is a row of channels, and an output pixel a row whose active inputs are those of all pixels of its
window, numbered by their place in it: from there on it is the all-to-all layer.
"""

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.buffers import empty
from ranvier.ops.native import Kernel, integer, sizes, vector
from ranvier.ops.spike_conv.window import Window, size_after
from ranvier.ops.spike_linear import cpu as linear

_ROWS = 4
"""Rows of output pixels of a block."""


def forward(lists: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor | None, shape: torch.Size) -> Tensor:
    """[N, O, H', W'] with channels last, from the lists of its windows."""
    pointer, index = lists
    number = torch.float64 if weight.dtype == torch.float64 else torch.float32
    flat = weight.detach().to(number).permute(0, 2, 3, 1).reshape(len(weight), -1)
    rows = linear.forward(pointer, index, None, flat, None if bias is None else bias.detach().to(number))
    n, _, height, width = shape
    return rows.view(n, height, width, -1).permute(0, 3, 1, 2)


def weight_gradient(lists: tuple[Tensor, Tensor], grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of weight [O, C, h, w] from that of the output."""
    number = torch.float64 if weight.dtype == torch.float64 else torch.float32
    outputs, channels, height, width = weight.shape
    rows = grad.permute(0, 2, 3, 1).to(number).reshape(-1, outputs)
    found = linear.weight_gradient(*lists, None, rows, height * width * channels)
    return found.contiguous().view(outputs, height, width, channels).permute(0, 3, 1, 2)


def windows(
    pointer: Tensor, index: Tensor, shape: torch.Size, weight: torch.Size, window: Window
) -> tuple[Tensor, Tensor]:
    """The lists of all output pixels, from those of the pixels of x [N, C, H, W]."""
    n, channels, height, width = shape
    after = size_after(shape, weight, window)
    found = torch.zeros(n * after[0] * after[1] + 1, dtype=torch.int64)
    given = (channels, height, width, *after, *weight[2:], *window.stride, *window.padding, *window.dilation)
    blocks, work = -(-n * after[0] // _ROWS), len(found)
    _counted(blocks, work, pointer, found, *given)
    torch.cumsum(found, 0, out=found)
    places = empty((int(found[-1]),), torch.int32)
    _listed(blocks, 4 * len(places), pointer, found, *given, index, places)
    return found, places


@Kernel
def _counted(table, low, high):
    pointer, found = vector(table, 0, np.int64), vector(table, 1, np.int64)
    height, width, height_after, width_after, kernel_y, kernel_x = sizes(table, 3)
    stride_y, stride_x, padding_y, padding_x, step_y, step_x = sizes(table, 9)
    for row in range(low * _ROWS, min(high * _ROWS, (found.size - 1) // max(width_after, 1))):
        picture, y = row // height_after, row % height_after
        for x in range(width_after):
            total = np.int64(0)
            for j in range(kernel_y):
                at_y = y * stride_y - padding_y + j * step_y
                if 0 <= at_y < height:
                    for i in range(kernel_x):
                        at_x = x * stride_x - padding_x + i * step_x
                        if 0 <= at_x < width:
                            pixel = (picture * height + at_y) * width + at_x
                            total += pointer[pixel + 1] - pointer[pixel]
            found[row * width_after + x + 1] = total


@Kernel
def _listed(table, low, high):
    pointer, found = vector(table, 0, np.int64), vector(table, 1, np.int64)
    channels = integer(table, 2)
    height, width, height_after, width_after, kernel_y, kernel_x = sizes(table, 3)
    stride_y, stride_x, padding_y, padding_x, step_y, step_x = sizes(table, 9)
    index, places = vector(table, 15, np.int32), vector(table, 16, np.int32)
    for row in range(low * _ROWS, min(high * _ROWS, (found.size - 1) // max(width_after, 1))):
        picture, y = row // height_after, row % height_after
        for x in range(width_after):
            at = found[row * width_after + x]
            for j in range(kernel_y):
                at_y = y * stride_y - padding_y + j * step_y
                if 0 <= at_y < height:
                    for i in range(kernel_x):
                        at_x = x * stride_x - padding_x + i * step_x
                        if 0 <= at_x < width:
                            pixel = (picture * height + at_y) * width + at_x
                            first = (j * kernel_x + i) * channels
                            for k in range(pointer[pixel], pointer[pixel + 1]):
                                places[at] = first + index[k]
                                at += 1
