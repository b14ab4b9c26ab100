from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class KBasedLIF(Neuron):
    """k-based leaky integrate-and-fire neuron (KLIF): a factor scales the membrane and its surrogate's slope.

    h[t] = a v[t-1] + (1 - a) x[t], a = decay(tau); v[t] = max(k h[t], 0); z[t] = v[t] >= threshold; then v is reset.
    Under "subtract" with k > 1 / a, a membrane far above the threshold grows without end.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Jiang and Zhang, arXiv:2302.09238, 2023 (KLIF).

    >>> import torch
    >>> KBasedLIF(k=2.0)(torch.full((5, 1, 1), 0.6)).flatten()
    tensor([0., 1., 0., 1., 0.])
    """

    tau = Parameter(2.0, unit="dt", low=1.0, doc="membrane time constant")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires")
    k = Parameter(1.0, low=0.0, doc="scale of the membrane")
    v = State(doc="membrane")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        h = x + self.decay(self.tau) * (v - x)
        v = (self.k * h).clamp_min(0)
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)
