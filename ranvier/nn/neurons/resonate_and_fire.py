import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class ResonateAndFire(Neuron):
    """Resonate-and-fire neuron in its balanced form (BRF): a damped oscillator that answers to its own frequency.

    With h = dt / tau, the state s = v + i w turns and shrinks: s[t] = s[t-1] k e^(i phi) + h x[t];
    z[t] = v[t] >= threshold + q[t-1]; then q[t] = decay(tau_refractory) q[t-1] + z[t]. Under "euler" it is the paper's
    s + h ((p - b - q) + i omega) s + h x with p = (sqrt(1 - (h omega)^2) - 1) / h, the boundary of divergence: without
    it Euler's rule lets oscillations grow. More than 0.99 rad in a step counts as 0.99. Under "exact",
    k = exp(-h (b + q)) and phi = h omega, which can't diverge.

    Balanced, because it trains: the plain neuron (Izhikevich 2001) throws its phase and the gradient away at each spike.
    Here nothing is set back; a spike raises the threshold and the damping for a while, by q. So `reset_mode` has no
    part in it. omega and b count per tau: with tau = 1 s they are in rad/s and 1/s. The paper has tau = 100 dt, omega
    from 3 to 85 and b from 0.1 to 3; the defaults turn and fade as fast, need a tenth of the input and are damped more
    by a spike.

    Input: current x [T, B, ...features]; at frequency omega an amplitude of 2 b threshold just fires it.
    Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Higuchi, Kairat, Bohte and Otte, ICML 2024; Izhikevich, Neural Netw. 2001.

    >>> import torch
    >>> x = 0.5 * torch.sin(0.1 * torch.arange(200)).reshape(-1, 1, 1)
    >>> [ResonateAndFire(omega=omega)(x).sum().item() for omega in (0.5, 1.0, 2.0)]
    [0.0, 3.0, 0.0]
    """

    tau = Parameter(10.0, unit="dt", low=1.0, doc="the unit of time of omega and b")
    omega = Parameter(1.0, unit="rad/tau", low=0.0, doc="angular frequency")
    b = Parameter(0.1, unit="1/tau", low=0.0, doc="damping, beyond the boundary of divergence")
    tau_refractory = Parameter(10.0, unit="dt", low=1.0, doc="time constant of the refractory period")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires")
    v = State(doc="membrane: the real part")
    w = State(doc="the imaginary part")
    q = State(doc="refractoriness")

    def step(self, x: Tensor, v: Tensor, w: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h = self.dt / self.tau
        turn, damping = h * self.omega, h * (self.b + q)
        if self.discretisation == "exact":
            kept = torch.exp(-damping)
            along, across = kept * torch.cos(turn), kept * torch.sin(turn)
        else:  # the gradient passes the bound, so that a learnt omega can come back
            across = turn - (turn - 0.99).clamp(min=0.0).detach()
            along = torch.sqrt(1 - across * across) - damping
        v, w = along * v - across * w + h * x, across * v + along * w
        z = self.spike(v - self.threshold - q)
        fired = z.detach() if self.detach_reset else z
        return z, v, w, self.decay(self.tau_refractory) * q + fired
