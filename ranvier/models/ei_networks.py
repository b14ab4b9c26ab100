"""Deep networks of excitatory and inhibitory neurons, and the same without normalisation beside them."""

from collections.abc import Sequence

from torch import nn

from ranvier.nn.coding.direct import Direct
from ranvier.nn.coding.rate import RateDecoder
from ranvier.nn.neurons.lif import LIF
from ranvier.nn.surrogates import Sigmoid
from ranvier.nn.synapses.lateral_conv import EIConv2d
from ranvier.nn.synapses.lateral_linear import EILinear
from ranvier.nn.synapses.linear import Linear
from ranvier.nn.synapses.pool import MaxPool2d

MLP_WIDTHS = (500,) * 4 + (400,) * 4 + (300,) * 4 + (200,) * 2 + (100,) * 2
VGG = {
    8: (64, 0, 128, 0, 256, 256, 0, 512, 512, 0),
    11: (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    16: (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
    19: (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0),
}
"""Channels of the convolutions, 0 for a pooling; that of depth 8 is our choice, one hidden layer follows it."""


def neurons() -> LIF:
    """The authors' LIF: v[t] = v[t-1] / 2 + x[t], threshold 1, subtracted after a spike without a gradient.

    Here v is half of theirs, and so are the threshold and the surrogate's width: the spikes and gradients are the same.
    The surrogate is sigmoid(4 u).
    """
    return LIF(tau=2.0, threshold=0.5, surrogate=Sigmoid(width=0.4407), reset_mode="subtract", detach_reset=True)


def ei_mlp(
    inputs: int, classes: int, widths: Sequence[int] = MLP_WIDTHS, steps: int = 4, ei_prop: bool = True
) -> nn.Sequential:
    """A deep perceptron of E-I layers for a static input [1, B, ...] of `inputs` values in all.

    >>> import torch
    >>> ei_mlp(16, 3, widths=(8, 8))(torch.rand(1, 2, 4, 4)).shape
    torch.Size([2, 3])
    """
    layers: list[nn.Module] = [nn.Flatten(2)]
    for width in widths:
        layers.append(EILinear(inputs, width, ei_prop=ei_prop))
        if len(layers) == 2:
            layers.append(Direct(steps))  # the first currents are the same at all steps
        layers.append(neurons())
        inputs = width
    return nn.Sequential(*layers, EILinear(inputs, classes, output=True, ei_prop=ei_prop), RateDecoder())


def plain_mlp(inputs: int, classes: int, widths: Sequence[int] = MLP_WIDTHS, steps: int = 4) -> nn.Sequential:
    """The same with torch's linear layers as they are drawn by default, and no normalisation.

    >>> import torch
    >>> plain_mlp(16, 3, widths=(8, 8))(torch.rand(1, 2, 4, 4)).shape
    torch.Size([2, 3])
    """
    layers: list[nn.Module] = [nn.Flatten(2)]
    for width in widths:
        layers.append(Linear(inputs, width))
        if len(layers) == 2:
            layers.append(Direct(steps))
        layers.append(neurons())
        inputs = width
    return nn.Sequential(*layers, Linear(inputs, classes), RateDecoder())


def ei_vgg(depth: int, channels: int, side: int, classes: int, steps: int = 4, ei_prop: bool = True) -> nn.Sequential:
    """A VGG of E-I layers for static pictures [1, B, channels, side, side]; depth 8, 11, 16 or 19.

    >>> import torch
    >>> ei_vgg(8, 1, 16, 3, steps=1)(torch.rand(1, 2, 1, 16, 16)).shape
    torch.Size([2, 3])
    """
    layers: list[nn.Module] = []
    for width in VGG[depth]:
        if width == 0:
            layers.append(MaxPool2d(2))
            side //= 2
            continue
        layers.append(EIConv2d(channels, width, 3, padding=1, ei_prop=ei_prop))
        if len(layers) == 1:
            layers.append(Direct(steps))
        layers.append(neurons())
        channels = width
    hidden = [EILinear(channels * side**2, 512, ei_prop=ei_prop), neurons()]
    return nn.Sequential(
        *layers, nn.Flatten(2), *hidden, EILinear(512, classes, output=True, ei_prop=ei_prop), RateDecoder()
    )
