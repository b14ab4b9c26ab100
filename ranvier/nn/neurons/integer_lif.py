from typing import Any

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class IntegerLIF(Neuron):
    """Integer leaky integrate-and-fire neuron (I-LIF): several spikes in one step, sent as their number.

    v[t] = a v[t-1] + x[t], a = decay(tau); n[t] = round(v[t] / threshold), held in 0..levels, a tie going to the even
    number; then v is lowered by threshold n[t].

    The gradient of n is 1 / threshold where v / threshold lies in [0, levels], else 0: there is one reset and no
    surrogate to choose. The same integers come out in training and in evaluation. Hardware sends an integer as
    `virtual_spikes`, binary ones in the first n of `levels` virtual steps, over which a layer adds up its W n.

    Input: current x [T, B, ...features]. Output: integers n of the values 0..levels, same shape.
    Raises: Refusal for input without time and batch axes, for parameters out of bounds and for levels below 1.
    Source: Luo et al., ECCV 2024 (SpikeYOLO), where the threshold is 1 and the reset detached.

    >>> import torch
    >>> neuron = IntegerLIF(levels=3)
    >>> n = neuron(torch.tensor([0.4, 2.2, 9.0]).reshape(3, 1, 1)); n.flatten()
    tensor([0., 2., 3.])
    >>> neuron.virtual_spikes(n).flatten()
    tensor([0., 0., 0., 1., 1., 0., 1., 1., 1.])
    """

    tau = Parameter(4 / 3, unit="dt", low=1.0, doc="membrane time constant")
    threshold = Parameter(1.0, low=1e-3, doc="membrane that one spike stands for")
    v = State(doc="membrane")

    def __init__(self, *, levels: int = 4, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(levels, int) or levels < 1:
            raise Refusal(
                "IntegerLIF.levels",
                expected="a whole number of at least 1",
                got=repr(levels),
                do="It is the largest number of spikes in a step.",
            )
        self.levels = levels

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = self.decay(self.tau) * v + x
        n = self.round((v / self.threshold).clamp(0, self.levels))
        return n, v - self.threshold * (n.detach() if self.detach_reset else n)

    def virtual_spikes(self, n: Tensor) -> Tensor:
        """The integers n [T, B, ...] as binary spikes [T * levels, B, ...]: over each `levels` steps their sum is n."""
        below = torch.arange(self.levels, device=n.device).reshape(-1, *[1] * (n.ndim - 1))
        return (n.unsqueeze(1) > below).to(n.dtype).flatten(0, 1)
