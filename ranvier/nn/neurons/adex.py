import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class AdEx(Neuron):
    """Adaptive exponential integrate-and-fire neuron: an upswing to the spike, and a current that tires it.

    v[t] = m v[t-1] + (1 - m) (x[t] - w[t-1] + up[t]), m = decay(tau),
    up[t] = sharpness exp(min(20, (min(v[t-1], threshold) - rheobase) / sharpness));
    w[t] = n w[t-1] + (1 - n) a v[t-1], n = decay(tau_adaptation); z[t] = v[t] >= threshold; then v is reset and w
    rises by b. The upswing is bounded as in ExponentialIF, so that it can't overflow.

    The unit of v, w and x is the way from rest (0) to the rheobase threshold, 20.2 mV in the paper; in it, and with
    steps of 1 ms, the defaults are the paper's: C = 281 pF, g_L = 30 nS, a = 4 nS, b = 80.5 pA, Delta_T = 2 mV.

    Input: current x [T, B, ...features] in the unit of v (1 is 606 pA in the paper). Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Brette and Gerstner, J. Neurophysiol. 2005.

    >>> import torch
    >>> AdEx()(torch.full((100, 1, 1), 1.8)).flatten().nonzero().flatten()  # it slows down
    tensor([ 9, 21, 34, 49, 66, 85])
    """

    tau = Parameter(9.37, unit="dt", low=1.0, doc="membrane time constant")
    tau_adaptation = Parameter(144.0, unit="dt", low=1.0, doc="time constant of the adaptation")
    rheobase = Parameter(1.0, low=0.0, doc="membrane from which the upswing outruns the leak")
    sharpness = Parameter(0.1, low=0.01, doc="how far the membrane goes while the upswing grows e-fold")
    a = Parameter(0.13, low=-1.0, doc="adaptation that follows the membrane, per leak")
    b = Parameter(0.13, low=0.0, doc="rise of the adaptation at each spike")
    threshold = Parameter(1.3, low=0.0, doc="membrane at which the upswing is cut off as a spike")
    v = State(doc="membrane")
    w = State(doc="adaptation")

    def step(self, x: Tensor, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height = (v.clamp(max=self.threshold) - self.rheobase) / self.sharpness
        drive = x - w + self.sharpness * torch.exp(height.clamp(max=20.0))
        pull = self.a * v
        w = pull + self.decay(self.tau_adaptation) * (w - pull)
        v = drive + self.decay(self.tau) * (v - drive)
        z = self.spike(v - self.threshold)
        fired = z.detach() if self.detach_reset else z
        return z, self.reset(v, z), w + self.b * fired
