from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class IF(Neuron):
    """Perfect integrate-and-fire neuron: it sums its input without a leak.

    v[t] = v[t-1] + x[t]; z[t] = v[t] >= threshold; then v is reset.
    There is nothing that decays, so `discretisation` and `dt` have no part in it.

    Input: charge x [T, B, ...features], in the unit of v. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Gerstein and Mandelbrot, Biophys. J. 1964 (perfect integrator).

    >>> import torch
    >>> IF(reset_mode="subtract")(torch.full((6, 1, 1), 0.75)).flatten()
    tensor([0., 1., 1., 1., 0., 1.])
    """

    threshold = Parameter(1.0, low=0.0, doc="membrane at which it fires")
    v = State(doc="membrane")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = v + x
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)
