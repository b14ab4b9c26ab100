from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class QuadraticIF(Neuron):
    """Quadratic integrate-and-fire neuron: the normal form of neurons that can fire arbitrarily slowly.

    tau dv/dt = v (v - critical) / critical + x, in steps: v[t] = a v[t-1] + (1 - a) (x[t] + s[t]^2 / critical),
    a = decay(tau), s[t] = v[t-1] held within +-threshold; z[t] = v[t] >= threshold; then v is reset.
    The square is held over a step ("euler" is Euler's rule, "exact" solves the leak exactly). It counts v only up to
    the threshold on either side, so that neither a spike nor strong inhibition can make a step overshoot.

    Input: current x [T, B, ...features] in the unit of v, which is 0 at rest; steady, it fires the neuron from
    critical / 4 on, at a rate that grows with the square root of what exceeds that. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Ermentrout, Neural Comput. 1996; Latham et al., J. Neurophysiol. 2000.

    >>> import torch
    >>> QuadraticIF(tau=4.0)(torch.full((9, 1, 1), 0.5)).flatten()
    tensor([0., 0., 0., 0., 0., 0., 0., 1., 0.])
    """

    tau = Parameter(10.0, unit="dt", low=1.0, doc="membrane time constant at rest")
    critical = Parameter(0.5, low=0.05, doc="membrane from which it goes on to fire without input")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which the upswing is cut off as a spike")
    v = State(doc="membrane")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        drive = x + v.clamp(-self.threshold, self.threshold).square() / self.critical
        v = drive + self.decay(self.tau) * (v - drive)
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)
