import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class StochasticLIF(Neuron):
    """Leaky integrate-and-fire neuron with escape noise: it fires by chance, more likely the higher its membrane.

    v[t] = a v[t-1] + (1 - a) x[t], a = decay(tau); p[t] = sigmoid((v[t] - threshold) / width);
    z[t] = 1 with probability p[t]; then v is reset. The gradient of z is that of p, so `surrogate` has no part in it.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Plesser and Gerstner, Neural Comput. 2000 (escape noise); Gerstner and Kistler 2002, ch. 5.3.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> StochasticLIF(tau=1.0, width=0.5)(torch.tensor([0.5, 1.0, 1.5]).expand(10_000, 1, 3)).mean(0)
    tensor([[0.2715, 0.4981, 0.7275]])
    """

    random = True
    tau = Parameter(2.0, unit="dt", low=1.0, doc="membrane time constant")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires half of the time")
    width = Parameter(0.25, low=0.01, doc="how far from the threshold chance decides")
    v = State(doc="membrane")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = x + self.decay(self.tau) * (v - x)
        z = self.bernoulli(torch.sigmoid((v - self.threshold) / self.width))
        return z, self.reset(v, z)
