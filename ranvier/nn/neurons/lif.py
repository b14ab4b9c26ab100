from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class LIF(Neuron):
    """Leaky integrate-and-fire neuron.

    v[t] = a v[t-1] + (1 - a) x[t], a = decay(tau); z[t] = v[t] >= threshold; then v is reset.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Lapicque 1907; in this discrete form Neftci, Mostafa and Zenke, IEEE SPM 2019, eq. 3-4.

    >>> import torch
    >>> LIF(tau=2.0)(torch.full((4, 1, 1), 1.5)).flatten()
    tensor([0., 1., 0., 1.])
    """

    tau = Parameter(2.0, unit="dt", low=1.0, doc="membrane time constant")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires")
    v = State(doc="membrane")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = x + self.decay(self.tau) * (v - x)
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)
