import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class EIConductanceLIF(Neuron):
    """Leaky integrate-and-fire neuron with an excitatory and an inhibitory conductance: that of the COBA network.

    tau dv/dt = v_rest - v + g_e (e_e - v) + g_i (e_i - v), tau_e dg_e/dt = -g_e, tau_i dg_i/dt = -g_i; conductances count in
    leaks. In a step what comes in is added at first, e = g_e[t-1] + max(x[t], 0), i = g_i[t-1] + max(-x[t], 0); then
    v[t] = u + a (v[t-1] - u), u = (v_rest + e e_e + i e_i) / G, G = 1 + e + i, g_e[t] = decay(tau_e) e and
    g_i[t] = decay(tau_i) i; under "exact" a = exp(-G dt / tau), which is exponential Euler, under "euler" 1 - G dt / tau.
    z[t] = v[t] >= threshold; then v is set to v_reset and held there for `refractory`, of which r counts the steps that
    are left. So `reset_mode` has no part in it. A constant current is part of v_rest: above threshold it fires by itself.

    Input: what synapses bring, x [T, B, ...features] in leaks; below 0 it inhibits. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Vogels and Abbott, J. Neurosci. 2005.

    >>> import torch
    >>> EIConductanceLIF(discretisation="exact")(torch.full((100, 1, 1), 0.1)).flatten().nonzero().flatten()
    tensor([12, 26, 40, 54, 68, 82, 96])
    """

    tau = Parameter(20.0, unit="dt", low=1.0, doc="membrane time constant")
    tau_e = Parameter(5.0, unit="dt", low=1.0, doc="time constant of excitation")
    tau_i = Parameter(10.0, unit="dt", low=1.0, doc="time constant of inhibition")
    refractory = Parameter(5.0, unit="dt", low=0.0, doc="how long it is held after a spike, in whole steps")
    v_rest = Parameter(-60.0, unit="mV", low=-200.0, doc="membrane at rest")
    v_reset = Parameter(-60.0, unit="mV", low=-200.0, doc="membrane after a spike")
    threshold = Parameter(-50.0, unit="mV", low=-200.0, doc="membrane at which it fires")
    e_e = Parameter(0.0, unit="mV", low=-200.0, doc="reversal potential of excitation")
    e_i = Parameter(-80.0, unit="mV", low=-200.0, doc="reversal potential of inhibition")
    v = State(-60.0, unit="mV", doc="membrane")
    g_e = State(unit="leak", doc="excitatory conductance")
    g_i = State(unit="leak", doc="inhibitory conductance")
    r = State(unit="dt", doc="steps for which it is still held")

    def step(self, x: Tensor, v: Tensor, g_e: Tensor, g_i: Tensor, r: Tensor) -> tuple[Tensor, ...]:
        g_e, g_i = g_e + x.clamp(min=0.0), g_i + (-x).clamp(min=0.0)
        rate, total = self.dt / self.tau, 1 + g_e + g_i
        drive = self.v_rest + g_e * self.e_e + g_i * self.e_i
        if self.discretisation == "exact":
            aim = drive / total
            v = aim + torch.exp(-rate * total) * (v - aim)
        else:
            v = v + rate * (drive - total * v)
        v = torch.where(r >= 0.5, self.v_reset, v)
        z = self.spike(v - self.threshold)
        fired = z.detach() if self.detach_reset else z
        v = v * (1 - fired) + self.v_reset * fired
        r = (r - 1).clamp(min=0.0) * (1 - fired) + self.refractory / self.dt * fired
        return z, v, self.decay(self.tau_e) * g_e, self.decay(self.tau_i) * g_i, r
