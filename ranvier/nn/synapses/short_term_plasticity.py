from typing import Any

import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class ShortTermPlasticity(Neuron):
    """Short-term plasticity: what a spike releases grows with facilitation and shrinks with depression of its synapse.

    A spike raises the share in use, u <- u + U (1 - u), and releases that share of the resources R, y[t] = u R x[t],
    R <- R - y[t]. To the next step u fades by exp(-dt / tau_facilitation), and 1 - R by exp(-dt / tau_depression).

    At rest u = 0 and R = 1, so the first spike releases U. Parameters are one number,
    or one for each presynaptic neuron; put a Linear behind it for the weights. Spikes between 0 and 1 count in part.

    Input: spikes x [T, B, ...features]. Output: released y [T, B, ...features], from 0 to 1.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Tsodyks, Pawelzik and Markram, Neural Comput. 1998, eq. 2.1-2.4 (in the form of Tsodyks and Wu, 2013).

    >>> import torch
    >>> ShortTermPlasticity(use=0.5, tau_facilitation=1.0, tau_depression=50.0)(torch.ones(3, 1, 1)).flatten()
    tensor([0.5000, 0.3018, 0.1362])
    """

    tau_facilitation = Parameter(50.0, unit="dt", low=0.1, doc="time in which facilitation fades")
    tau_depression = Parameter(20.0, unit="dt", low=0.1, doc="time in which resources recover")
    use = Parameter(0.2, low=0.0, high=1.0, doc="share U of the resources that the first spike uses")
    u = State(doc="share that was used last, faded")
    used = State(doc="resources that are not back yet, 1 - R")
    spiking = False

    def step(self, x: Tensor, u: Tensor, used: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = u + self.use * (1 - u) * x
        y = u * (1 - used) * x
        return y, u * self.decay(self.tau_facilitation), (used + y) * self.decay(self.tau_depression)

    def decay(self, tau: Any) -> Tensor:
        return torch.exp(-self.dt / tau)
