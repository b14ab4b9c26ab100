import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class EICurrentLIF(Neuron):
    """Leaky integrate-and-fire neuron with an excitatory and an inhibitory current: that of the CUBA network.

    tau dv/dt = v_rest - v + g_e + g_i, tau_e dg_e/dt = -g_e, tau_i dg_i/dt = -g_i. In a step what comes in is added at
    first, e = g_e[t-1] + max(x[t], 0), i = g_i[t-1] + min(x[t], 0); then
    v[t] = v_rest + a (v[t-1] - v_rest) + c(tau_e) e + c(tau_i) i, a = decay(tau), g_e[t] = decay(tau_e) e and
    g_i[t] = decay(tau_i) i; under "exact" c(s) = s / (s - tau) (decay(s) - a), which is the solution, under "euler" 1 - a.
    z[t] = v[t] >= threshold; then v is set to v_reset and held there for `refractory`, of which r counts the steps that
    are left. So `reset_mode` has no part in it. A constant current is part of v_rest: above threshold it fires by itself.

    Input: what synapses bring, x [T, B, ...features] in mV. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Vogels and Abbott, J. Neurosci. 2005; exact integration: Rotter and Diesmann, Biol. Cybern. 1999.

    >>> import torch
    >>> EICurrentLIF(discretisation="exact")(torch.full((100, 1, 1), 3.0)).flatten().nonzero().flatten()
    tensor([27, 55, 83])
    """

    tau = Parameter(20.0, unit="dt", low=1.0, doc="membrane time constant")
    tau_e = Parameter(5.0, unit="dt", low=1.0, doc="time constant of excitation")
    tau_i = Parameter(10.0, unit="dt", low=1.0, doc="time constant of inhibition")
    refractory = Parameter(5.0, unit="dt", low=0.0, doc="how long it is held after a spike, in whole steps")
    v_rest = Parameter(-60.0, unit="mV", low=-200.0, doc="membrane at rest")
    v_reset = Parameter(-60.0, unit="mV", low=-200.0, doc="membrane after a spike")
    threshold = Parameter(-50.0, unit="mV", low=-200.0, doc="membrane at which it fires")
    v = State(-60.0, unit="mV", doc="membrane")
    g_e = State(unit="mV", doc="excitatory current")
    g_i = State(unit="mV", doc="inhibitory current")
    r = State(unit="dt", doc="steps for which it is still held")

    def step(self, x: Tensor, v: Tensor, g_e: Tensor, g_i: Tensor, r: Tensor) -> tuple[Tensor, ...]:
        g_e, g_i = g_e + x.clamp(min=0.0), g_i + x.clamp(max=0.0)
        v = self.v_rest + self.decay(self.tau) * (v - self.v_rest)
        v = v + self._reach(self.tau_e) * g_e + self._reach(self.tau_i) * g_i
        v = torch.where(r >= 0.5, self.v_reset, v)
        z = self.spike(v - self.threshold)
        fired = z.detach() if self.detach_reset else z
        v = v * (1 - fired) + self.v_reset * fired
        r = (r - 1).clamp(min=0.0) * (1 - fired) + self.refractory / self.dt * fired
        return z, v, self.decay(self.tau_e) * g_e, self.decay(self.tau_i) * g_i, r

    def _reach(self, tau: Tensor) -> Tensor:
        """What a current of 1, decaying with tau, moves the membrane by in a step."""
        if self.discretisation == "euler":
            return 1 - self.decay(self.tau)
        h = self.dt / self.tau
        d = h - self.dt / tau  # 0 where the constants are equal: there (exp(d) - 1) / d is its series
        near = d.abs() < 0.1
        far = torch.where(near, 1.0, d)
        series = 1 + d / 2 * (1 + d / 3 * (1 + d / 4 * (1 + d / 5)))
        return h * self.decay(self.tau) * torch.where(near, series, (torch.exp(far) - 1) / far)
