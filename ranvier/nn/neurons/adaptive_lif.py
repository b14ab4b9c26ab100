from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class AdaptiveLIF(Neuron):
    """Adaptive leaky integrate-and-fire neuron: each spike raises the threshold for a while.

    v[t] = a v[t-1] + (1 - a) x[t], a = decay(tau); theta[t] = threshold + beta w[t-1]; z[t] = v[t] >= theta[t];
    then v is reset (by theta[t] under "subtract") and w[t] = b w[t-1] + (1 - b) z[t], b = decay(tau_adaptation).

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Bellec et al., NeurIPS 2018 (LSNN); Yin, Corradi and Bohte, Nat. Mach. Intell. 2021, eq. 4-7.

    >>> import torch
    >>> AdaptiveLIF(tau=1.0, tau_adaptation=4.0, beta=2.0)(torch.full((6, 1, 1), 1.2)).flatten()
    tensor([1., 0., 0., 0., 0., 1.])
    """

    tau = Parameter(10.0, unit="dt", low=1.0, doc="membrane time constant")
    tau_adaptation = Parameter(50.0, unit="dt", low=1.0, doc="time constant of the adaptation")
    beta = Parameter(1.0, low=0.0, doc="rise of the threshold at full adaptation")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires when not adapted")
    v = State(doc="membrane")
    w = State(doc="adaptation")

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v = x + self.decay(self.tau) * (v - x)
        theta = self.threshold + self.beta * w
        z = self.spike(v - theta)
        return z, self.reset(v, z, theta), z + self.decay(self.tau_adaptation) * (w - z)
