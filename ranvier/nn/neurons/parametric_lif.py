from typing import Any

import torch
from torch import Tensor, nn

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class ParametricLIF(Neuron):
    """Parametric LIF neuron (PLIF): a leaky integrate-and-fire neuron that learns its time constant.

    v[t] = a v[t-1] + (1 - a) x[t], a = decay(tau), tau = dt / sigmoid(w); z[t] = v[t] >= threshold; then v is reset.
    So 1 - a = sigmoid(w) under "euler", and w = 0 is LIF with tau = 2 dt. Unless w is given it is an `nn.Parameter`,
    one for the whole layer; a number fixes it.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Fang et al., ICCV 2021 (PLIF).

    >>> import torch
    >>> layer = ParametricLIF()
    >>> layer(torch.full((4, 1, 1), 1.5)).flatten(), [name for name, _ in layer.named_parameters()]
    (tensor([0., 1., 0., 1.], grad_fn=...), ['w'])
    """

    w = Parameter(0.0, low=-10.0, high=10.0, doc="logit of dt / tau")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires")
    v = State(doc="membrane")

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"w": nn.Parameter(torch.tensor(self.declared["w"].default)), **options})

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = x + self.decay(self.dt / torch.sigmoid(self.w)) * (v - x)
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)
