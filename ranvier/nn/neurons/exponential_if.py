import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class ExponentialIF(Neuron):
    """Exponential integrate-and-fire neuron: beyond its rheobase threshold the membrane swings up by itself.

    v[t] = a v[t-1] + (1 - a) (x[t] + up[t]), a = decay(tau),
    up[t] = sharpness exp(min(20, (min(v[t-1], threshold) - rheobase) / sharpness)); z[t] = v[t] >= threshold; then v is
    reset. The upswing is held over a step ("euler" is Euler's rule, "exact" solves the leak exactly). It counts v only
    up to the threshold, where the spike is cut off, and its exponent only up to 20, so that it can't overflow.

    Input: current x [T, B, ...features] in the unit of v, which is 0 at rest; steady, it fires the neuron from
    rheobase - sharpness on. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Fourcaud-Trocme, Hansel, van Vreeswijk and Brunel, J. Neurosci. 2003.

    >>> import torch
    >>> ExponentialIF(tau=4.0)(torch.full((9, 1, 1), 1.5)).flatten()
    tensor([0., 0., 0., 0., 0., 1., 0., 0., 0.])
    """

    tau = Parameter(10.0, unit="dt", low=1.0, doc="membrane time constant")
    rheobase = Parameter(1.0, low=0.0, doc="membrane from which the upswing outruns the leak")
    sharpness = Parameter(0.1, low=0.01, doc="how far the membrane goes while the upswing grows e-fold")
    threshold = Parameter(1.3, low=0.0, doc="membrane at which the upswing is cut off as a spike")
    v = State(doc="membrane")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        height = (v.clamp(max=self.threshold) - self.rheobase) / self.sharpness
        drive = x + self.sharpness * torch.exp(height.clamp(max=20.0))
        v = drive + self.decay(self.tau) * (v - drive)
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)
