import math

import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class RectifiedSoftReset(Neuron):
    """Soft-reset neuron that learns from a membrane rectified towards its two spike values (InfLoR).

    v[t] = beta v[t-1] + x[t]; z[t] = v[t] >= threshold; then v is lowered by amplitude z[t]. In training the surrogate
    sees `rectify`(v - threshold): it has the sign of v - threshold, so that the spikes are the same, but a slope of its
    own. In evaluation it sees v - threshold.

    There is one reset, by default larger than the threshold, and no time constant. The paper's gradient is that of
    surrogate=Rectangle(width=1.0).

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Guo et al., ECCV 2022 (InfLoR-SNN); decay and reset of the released code.

    >>> import torch
    >>> RectifiedSoftReset()(torch.full((5, 1, 1), 0.4)).flatten()
    tensor([0., 1., 0., 1., 0.])
    """

    beta = Parameter(1.0, low=0.0, high=1.0, doc="share of the membrane that is kept from step to step")
    threshold = Parameter(0.5, low=0.0, doc="membrane at which it fires")
    amplitude = Parameter(1.0, low=0.0, doc="what a spike takes from the membrane")
    v = State(doc="membrane, not rectified")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = self.beta * v + x
        u = v - self.threshold
        z = self.spike(self.rectify(u) if self.training else u)
        return z, v - self.amplitude * (z.detach() if self.detach_reset else z)

    def rectify(self, u: Tensor) -> Tensor:
        """The rectified membrane, both counted from the threshold; with v = u + 1/2 it is the paper's phi(v) - 1/2."""
        near = (0.5 / math.tanh(1.5)) * torch.tanh(3 * u)
        far = u.sign() * (torch.exp(torch.log(u.abs() + 0.5) / 3) - 0.5)
        return torch.where(u.abs() <= 0.5, near, far)
