from typing import Any

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class MultiThreshold(Neuron):
    """Multi-threshold neuron (MT) of converted networks: a spike carries the signed level nearest to the membrane.

    With levels L[i] = threshold / 2^i, i = 0..levels-1: v[t] = v[t-1] + x[t]; z[t] = sign(v[t]) L[i] for the first i
    with |v[t]| >= 3/4 L[i], else 0; then v is lowered by z[t].

    3/4 L[i] is midway to the next level, so that z is the nearest; the smallest level fires from 3/4 of itself too.
    There is one reset, and no decay. With levels=1 this is an integrate-and-fire neuron with signed spikes.

    Input: current x [T, B, ...features]. Output: spikes z of the values 0 and +-threshold / 2^i, same shape.
    Raises: Refusal for input without time and batch axes, for parameters out of bounds and for levels below 1.
    Source: Huang et al., ACM MM 2024 (ECMT), and ICML 2025 (differential coding) with its released code.

    >>> import torch
    >>> MultiThreshold(levels=3)(torch.tensor([0.8, 0.0, -1.0, 0.2]).reshape(4, 1, 1)).flatten()
    tensor([ 1.0000, -0.2500, -1.0000,  0.2500])
    """

    threshold = Parameter(1.0, low=0.0, doc="the largest level")
    v = State(doc="membrane")

    def __init__(self, *, levels: int = 8, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(levels, int) or levels < 1:
            raise Refusal(
                "MultiThreshold.levels",
                expected="a whole number of at least 1",
                got=repr(levels),
                do="It is the number of levels of one sign.",
            )
        self.levels = levels

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = v + x
        z = torch.zeros_like(v)
        for i in range(self.levels):
            level = self.threshold * 0.5**i
            # who passes a level has passed all smaller ones: a level adds what it has over the next
            rise = level if i == self.levels - 1 else 0.5 * level
            z = z + rise * (self.spike(v - 0.75 * level) - self.spike(-v - 0.75 * level))
        return z, v - (z.detach() if self.detach_reset else z)
