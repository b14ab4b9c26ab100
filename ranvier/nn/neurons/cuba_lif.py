from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class CuBaLIF(Neuron):
    """Current-based leaky integrate-and-fire neuron: the input is filtered by a synapse before the membrane.

    i[t] = a_s i[t-1] + x[t], a_s = decay(tau_synapse); v[t] = a v[t-1] + (1 - a) i[t], a = decay(tau);
    z[t] = v[t] >= threshold; then v is reset, i is not.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Davies et al., IEEE Micro 2018 (Loihi); Neftci, Mostafa and Zenke, IEEE SPM 2019, eq. 5.

    >>> import torch
    >>> CuBaLIF(tau=2.0, tau_synapse=2.0)(torch.full((4, 1, 1), 0.8)).flatten()
    tensor([0., 0., 1., 0.])
    """

    tau = Parameter(10.0, unit="dt", low=1.0, doc="membrane time constant")
    tau_synapse = Parameter(5.0, unit="dt", low=1.0, doc="synaptic time constant")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires")
    i = State(doc="synaptic current")
    v = State(doc="membrane")

    def step(self, x: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        i = self.decay(self.tau_synapse) * i + x
        v = i + self.decay(self.tau) * (v - i)
        z = self.spike(v - self.threshold)
        return z, i, self.reset(v, z)
