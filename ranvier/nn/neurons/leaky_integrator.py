from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class LeakyIntegrator(Neuron):
    """Leaky integrator: a membrane that never fires, for reading a network out.

    v[t] = a v[t-1] + (1 - a) x[t], a = decay(tau). The output is v.

    Input: current x [T, B, ...features]. Output: membrane v, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: the LIF neuron's equation below threshold (Lapicque 1907).

    >>> import torch
    >>> LeakyIntegrator(tau=2.0)(torch.ones(3, 1, 1)).flatten()
    tensor([0.5000, 0.7500, 0.8750])
    """

    tau = Parameter(2.0, unit="dt", low=1.0, doc="membrane time constant")
    v = State(doc="membrane")
    spiking = False

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = x + self.decay(self.tau) * (v - x)
        return v, v
