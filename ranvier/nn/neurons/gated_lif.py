import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class GatedLIF(Neuron):
    """Gated leaky integrate-and-fire neuron (GLIF): gates mix two kinds of leak, of input and of reset.

    With gates A, B, C = sigmoid of alpha, beta, gamma, and a = 1 - A (1 - decay(tau)):
    u[t] = a u[t-1] (1 - C z[t-1]) - (1 - A) leak + (1 - B (1 - conductance)) x[t] - (1 - C) v_subreset z[t-1];
    z[t] = u[t] >= threshold.

    A goes from a linear leak (0) to an exponential one (1), B from the plain input (0) to a weighted one (1), C from a
    reset by subtraction (0) to one to zero (1), so that there is no reset to choose. The state is what the next step
    starts from, v[t] = a u[t] (1 - C z[t]) - (1 - C) v_subreset z[t]. The paper learns a conductance for each of its
    steps; here one serves all, so that any number of steps can follow.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Yao et al., NeurIPS 2022; defaults of the released code.

    >>> import torch
    >>> GatedLIF()(torch.full((6, 1, 1), 0.5)).flatten()
    tensor([0., 1., 0., 1., 0., 1.])
    """

    alpha = Parameter(0.0, low=-30.0, high=30.0, doc="logit of the leak's gate")
    beta = Parameter(0.0, low=-30.0, high=30.0, doc="logit of the input's gate")
    gamma = Parameter(0.0, low=-30.0, high=30.0, doc="logit of the reset's gate")
    tau = Parameter(4 / 3, unit="dt", low=1.0, doc="time constant of the exponential leak")
    leak = Parameter(0.0625, low=0.0, high=1.0, doc="what the linear leak takes in a step")
    conductance = Parameter(0.5, low=0.0, high=1.0, doc="weight of the input")
    v_subreset = Parameter(0.5, low=0.0, high=1.0, doc="what the subtracting reset takes")
    threshold = Parameter(0.5, low=0.0, doc="membrane at which it fires")
    v = State(doc="membrane after reset and exponential leak")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta, gamma = torch.sigmoid(self.alpha), torch.sigmoid(self.beta), torch.sigmoid(self.gamma)
        u = v - (1 - alpha) * self.leak + (1 - beta * (1 - self.conductance)) * x
        z = self.spike(u - self.threshold)
        reset = z.detach() if self.detach_reset else z
        kept = (1 - alpha * (1 - self.decay(self.tau))) * u
        return z, kept - gamma * kept * reset - (1 - gamma) * self.v_subreset * reset
