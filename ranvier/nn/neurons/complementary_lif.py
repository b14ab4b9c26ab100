import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class ComplementaryLIF(Neuron):
    """Complementary leaky integrate-and-fire neuron (CLIF): recent spikes deepen the reset.

    v[t] = a v[t-1] + x[t], a = decay(tau); z[t] = v[t] >= threshold; m[t] = m[t-1] sigmoid((1 - a) v[t]) + z[t];
    then v is reset and lowered by sigmoid(m[t]) z[t] besides.

    The complementary potential m is a second way for the gradient through time. The paper's neuron has
    reset_mode="subtract", its code both.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Huang et al., ICML 2024 (CLIF).

    >>> import torch
    >>> ComplementaryLIF(reset_mode="subtract")(torch.full((6, 1, 1), 0.7)).flatten()
    tensor([0., 1., 0., 0., 1., 0.])
    """

    tau = Parameter(2.0, unit="dt", low=1.0, doc="membrane time constant")
    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires")
    v = State(doc="membrane")
    m = State(doc="complementary potential")

    def step(self, x: Tensor, v: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = self.decay(self.tau)
        v = a * v + x
        z = self.spike(v - self.threshold)
        m = m * torch.sigmoid((1 - a) * v) + z
        return z, self.reset(v, z) - torch.sigmoid(m) * (z.detach() if self.detach_reset else z), m
