"""Neurons whose reset comes with the next step, as in snnTorch: those of networks that were published with it."""

import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class Leaky(Neuron):
    """Leaky integrate-and-fire neuron whose current is not scaled and whose reset comes one step late.

    v[t] = b v[t-1] + x[t] - threshold z[t-1], without a gradient through the reset; z[t] = v[t] >= threshold.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Eshraghian et al., Proc. IEEE 2023 (snnTorch's Leaky; there z is v > threshold).

    >>> Leaky(b=0.5)(torch.full((4, 1, 1), 0.8)).flatten()
    tensor([0., 1., 0., 1.])
    """

    b = Parameter(0.9, low=0.0, high=1.0, doc="what is left of the membrane after a step")
    threshold = Parameter(1.0, low=0.05, doc="membrane at which it fires")
    v = State(doc="membrane, before its reset")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = self.b * v + x - self.threshold * torch.where(v >= self.threshold, 1.0, 0.0)
        return self.spike(v - self.threshold), v


class Synaptic(Neuron):
    """As Leaky, with a synapse that filters the current.

    i[t] = a i[t-1] + x[t]; v[t] = b v[t-1] + i[t] - threshold z[t-1], without a gradient through the reset;
    z[t] = v[t] >= threshold.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Eshraghian et al., Proc. IEEE 2023 (snnTorch's Synaptic; there z is v > threshold).

    >>> Synaptic(a=0.5, b=0.5)(torch.full((4, 1, 1), 0.4)).flatten()
    tensor([0., 0., 1., 0.])
    """

    a = Parameter(0.5, low=0.0, high=1.0, doc="what is left of the synaptic current after a step")
    b = Parameter(0.9, low=0.0, high=1.0, doc="what is left of the membrane after a step")
    threshold = Parameter(1.0, low=0.05, doc="membrane at which it fires")
    i = State(doc="synaptic current")
    v = State(doc="membrane, before its reset")

    def step(self, x: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        i = self.a * i + x
        v = self.b * v + i - self.threshold * torch.where(v >= self.threshold, 1.0, 0.0)
        return self.spike(v - self.threshold), i, v
