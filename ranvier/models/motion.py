"""One layer of neurons that see motion: logistic regression on events at all delays, and what its kernels tell."""

import copy
import math

import torch
from torch import Tensor, nn

from ranvier.nn.synapses.delayed_conv import DelayedConv2d, cone


def motion_network(motions: int, window: int = 9, max_delay: int = 11, stride: int = 2) -> DelayedConv2d:
    """The evidence for each motion at every time and place of events [T, B, 2, H, W], as log-odds.

    The bias begins at the odds of one motion among all.

    Source: Grimaldi and Perrinet, Biological Cybernetics 2023.

    >>> motion_network(4, window=3, max_delay=2)(torch.zeros(5, 1, 2, 7, 7)).shape
    torch.Size([5, 1, 4, 3, 3])
    """
    mask = cone((window, window), max_delay)
    layer = DelayedConv2d(2, motions, window, max_delay=max_delay, mask=mask, stride=stride)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, -math.log(motions - 1))
    return layer


def with_kernel(network: DelayedConv2d, kernel: Tensor) -> DelayedConv2d:
    """A copy of a motion network with another kernel."""
    twin = copy.deepcopy(network)
    twin.mask = None
    twin.weight.data.copy_(kernel)
    return twin


def strongest(kernel: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """The kernel with all weights 0 but the largest `share` of them; with a generator, but as many at random.

    >>> strongest(torch.tensor([3.0, -4.0, 0.0, 1.0, 2.0]), 0.5)
    tensor([ 3., -4.,  0.,  0.,  0.])
    """
    there = kernel != 0
    rank = kernel.abs() if generator is None else torch.rand(kernel.shape, generator=generator) * there
    kept = rank.flatten().topk(round(share * int(there.sum()))).indices
    return torch.zeros_like(kernel).flatten().index_copy(0, kept, kernel.flatten()[kept]).view_as(kernel)


def without_delays(kernel: Tensor) -> Tensor:
    """The kernel [motions, 2, delays, h, w] with all that it has over delays at delay 0."""
    return torch.cat([kernel.sum(2, keepdim=True), torch.zeros_like(kernel[:, :, 1:])], 2)


def mirrored(kernel: Tensor, right: list[int], left: list[int]) -> float:
    """The mean correlation of kernels of motions to the right with those to the left, mirrored."""
    pairs = zip(right, left, strict=True)
    found = [torch.corrcoef(torch.stack([kernel[i].flatten(), kernel[j].flip(-1).flatten()]))[0, 1] for i, j in pairs]
    return float(torch.stack(found).mean())


@torch.no_grad()
def by_events(network: DelayedConv2d, x: Tensor) -> Tensor:
    """What the network gives for one movie x [T, 1, 2, H, W] of 0 and 1, added up event by event as they come.

    An event adds its synapses' weights to what is to arrive at each later step, as hardware with delays does.
    """
    kernel, stride, window, steps = network.kernel(), network.stride[0], network.window[0], len(x)
    high, wide = ((n - window) // stride + 1 for n in x.shape[3:])
    arriving = torch.zeros(steps + network.max_delay, len(kernel), high, wide)
    for t, _, p, i, j in x.nonzero().tolist():
        rows, columns = (
            torch.arange(max(0, -(-(at - window + 1) // stride)), min(n, at // stride + 1))
            for at, n in ((i, high), (j, wide))
        )
        if len(rows) and len(columns):
            synapses = kernel[:, p][:, :, i - stride * rows][
                ..., j - stride * columns
            ]  # [motions, delays, rows, columns]
            later = slice(t, t + network.max_delay + 1)
            arriving[later, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += synapses.transpose(0, 1)
    assert network.bias is not None
    return (arriving[:steps] + network.bias[:, None, None])[:, None]
