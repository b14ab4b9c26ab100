import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class RefractoryLIF(Neuron):
    """Leaky integrate-and-fire neuron with a refractory period, whose synapses act at once: that of Brunel's network.

    v[t] = a v[t-1] + (1 - a) x[t], a = decay(tau); z[t] = v[t] >= threshold; then v is set to v_reset and held there for
    `refractory`, of which r counts the steps that are left. So `reset_mode` has no part in it. Projections of a Network raise
    v by their weight at each spike; what comes while v is held is lost.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Brunel, J. Comput. Neurosci. 2000, eq. 1-2.

    >>> import torch
    >>> RefractoryLIF(discretisation="exact")(torch.full((100, 1, 1), 1.5)).flatten().nonzero().flatten()
    tensor([21, 45, 69, 93])
    """

    tau = Parameter(20.0, unit="dt", low=1.0, doc="membrane time constant")
    refractory = Parameter(2.0, unit="dt", low=0.0, doc="how long it is held after a spike, in whole steps")
    v_reset = Parameter(0.0, low=-200.0, doc="membrane after a spike")
    threshold = Parameter(1.0, low=-200.0, doc="membrane at which it fires")
    v = State(doc="membrane")
    r = State(unit="dt", doc="steps for which it is still held")

    def step(self, x: Tensor, v: Tensor, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        v = torch.where(r >= 0.5, self.v_reset, x + self.decay(self.tau) * (v - x))
        z = self.spike(v - self.threshold)
        fired = z.detach() if self.detach_reset else z
        r = (r - 1).clamp(min=0.0) * (1 - fired) + self.refractory / self.dt * fired
        return z, v * (1 - fired) + self.v_reset * fired, r
