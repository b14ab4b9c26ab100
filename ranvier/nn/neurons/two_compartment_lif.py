from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class TwoCompartmentLIF(Neuron):
    """Two-compartment LIF neuron (TC-LIF): a dendrite that remembers drives a soma that fires.

    u[t] = u[t-1] + beta_1 v[t-1] + x[t]; v[t] = v[t-1] + beta_2 u[t]; z[t] = v[t] >= threshold;
    then both are reset: under "subtract", the paper's reset, u falls by gamma and v by threshold, under "zero" both are
    set to 0. The paper writes beta_1 = -sigmoid(c_1) and beta_2 = sigmoid(c_2); here they are held within the same
    bounds, and learnt where an `nn.Parameter` is given. Nothing decays: `discretisation` and `dt` have no part in it.

    Input: current x [T, B, ...features], into the dendrite. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Zhang et al., AAAI 2024 (TC-LIF).

    >>> import torch
    >>> TwoCompartmentLIF(reset_mode="subtract")(torch.full((6, 1, 1), 0.8)).flatten()
    tensor([0., 1., 0., 1., 1., 1.])
    """

    beta_1 = Parameter(-0.5, low=-1.0, high=0.0, doc="from the soma back to the dendrite")
    beta_2 = Parameter(0.5, low=0.0, high=1.0, doc="from the dendrite to the soma")
    gamma = Parameter(0.5, low=0.0, doc="fall of the dendrite at each spike")
    threshold = Parameter(1.0, low=0.0, doc="somatic membrane at which it fires")
    u = State(doc="dendritic membrane")
    v = State(doc="somatic membrane")

    def step(self, x: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u = u + self.beta_1 * v + x
        v = v + self.beta_2 * u
        z = self.spike(v - self.threshold)
        return z, self.reset(u, z, self.gamma), self.reset(v, z)
