from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class Izhikevich(Neuron):
    """Izhikevich neuron: two equations whose four numbers give the firing patterns of cortical cells.

    dv/dt = 0.04 v^2 + 5 v + 140 - u + x, du/dt = a (b v - u), in ms and mV. As in the paper's program v makes two half
    steps (v[t] = g(g(v[t-1])), g(v) = v + dt/2 dv/dt) and then u[t] = u[t-1] + dt a (b v[t] - u[t-1]);
    z[t] = v[t] >= threshold; then v is set to c and u rises by d. So `reset_mode` and `discretisation` have no part in
    it. In steps of 1 ms v overshoots its peak at random and drags u along: patterns are even from dt = 0.1 on, and |x|
    must stay below some hundreds. For training give the surrogate a width in mV, Arctan(20.0), and clip the gradient or
    cut it with temporal_grad="none": every spike that it passes multiplies it.

    Patterns (a, b, c, d): regular spiking as by default; intrinsically bursting 0.02, 0.2, -55, 4; chattering 0.02,
    0.2, -50, 2; fast spiking 0.1, 0.2, -65, 2; low-threshold spiking 0.02, 0.25, -65, 2.

    Input: current x [T, B, ...features] in mV/ms, about 10. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Izhikevich, IEEE Trans. Neural Netw. 2003, eq. 1-3 and its program.

    >>> import torch
    >>> Izhikevich()(torch.full((100, 1, 1), 10.0)).flatten().nonzero().flatten()
    tensor([ 3, 30, 78])
    """

    a = Parameter(0.02, unit="1/ms", low=0.0, doc="speed of the recovery")
    b = Parameter(0.2, unit="1/ms", low=-10.0, doc="how strongly the recovery follows the membrane")
    c = Parameter(-65.0, unit="mV", low=-100.0, doc="membrane after a spike")
    d = Parameter(8.0, unit="mV/ms", low=-100.0, doc="rise of the recovery at each spike")
    threshold = Parameter(30.0, unit="mV", low=-50.0, doc="membrane at the peak of a spike")
    v = State(-65.0, unit="mV", doc="membrane")
    u = State(-13.0, unit="mV/ms", doc="recovery")

    def step(self, x: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for _ in range(2):
            v = v + 0.5 * self.dt * (0.04 * v**2 + 5 * v + 140 - u + x)
        u = u + self.dt * self.a * (self.b * v - u)
        z = self.spike(v - self.threshold)
        fired = z.detach() if self.detach_reset else z
        return z, v * (1 - fired) + self.c * fired, u + self.d * fired
