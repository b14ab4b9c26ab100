"""How the kernel of a convolution moves over a picture."""

from typing import NamedTuple

import torch


class Window(NamedTuple):
    """Steps, zeros around the picture, and distances, each (vertical, horizontal); and groups of channels."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def size_after(shape: torch.Size, weight: torch.Size, window: Window) -> tuple[int, int]:
    """Height and width of what a kernel [O, C, h, w] makes of [N, C, H, W].

    >>> size_after(torch.Size((1, 2, 5, 6)), torch.Size((4, 2, 3, 3)), Window(stride=(2, 1), padding=(1, 0)))
    (3, 4)
    """
    stride, padding, dilation, _ = window
    sizes = zip(shape[2:], weight[2:], stride, padding, dilation, strict=True)
    height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
    return height, width
