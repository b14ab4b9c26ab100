import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class ProbabilisticMeta(Neuron):
    """Probabilistic meta-neuron: a quadratic neuron with recovery that fires by chance.

    v[t] = v[t-1] + h (v[t-1]^2 - v[t-1] - u[t-1] + x[t]), u[t] = u[t-1] + h a (b v[t] - u[t-1]), h = dt / tau;
    z[t] = 1 with probability sigmoid(beta (v[t] - threshold)); then v is set to c and u rises by d. The gradient of z is
    that of its probability. So `surrogate`, `reset_mode` and `discretisation` have no part in it. With h near 1 strong
    input overflows.

    Input: current x [T, B, ...features]; steady, it fires the neuron from 1/4 on, and now and then below.
    Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Rudnicka, Szczepanski and Pregowska, arXiv 2508.11674, 2025. The paper names the neuron but its equations
    were not to be had: the quadratic form is the wider literature's, the numbers are ours.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> ProbabilisticMeta()(torch.tensor([0.0, 0.5, 2.0]).expand(1000, 1, 3)).mean(0)
    tensor([[0.0070, 0.0380, 0.1870]])
    """

    random = True
    tau = Parameter(5.0, unit="dt", low=1.0, doc="the unit of time of the equations")
    a = Parameter(0.1, low=0.0, doc="speed of the recovery")
    b = Parameter(0.2, low=-10.0, doc="how strongly the recovery follows the membrane")
    c = Parameter(0.0, low=-10.0, doc="membrane after a spike")
    d = Parameter(0.1, low=-10.0, doc="rise of the recovery at each spike")
    beta = Parameter(5.0, low=0.0, doc="how steeply the probability rises with the membrane")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires half of the time")
    v = State(doc="membrane")
    u = State(doc="recovery")

    def step(self, x: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.dt / self.tau
        v = v + h * (v * v - v - u + x)
        u = u + h * self.a * (self.b * v - u)
        z = self.bernoulli(torch.sigmoid(self.beta * (v - self.threshold)))
        fired = z.detach() if self.detach_reset else z
        return z, v * (1 - fired) + self.c * fired, u + self.d * fired
