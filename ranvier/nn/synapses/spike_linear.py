from typing import Any

from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.ops.spike_linear import spike_linear
from ranvier.ops.spike_pack.spikes import Spikes


class SpikeLinear(nn.Linear):
    """All-to-all synapses on spikes: the cost follows the spikes where they are few, and backward keeps a bit for each input.

    y[t] = W x[t] + b, as `Linear`. With few spikes y[t] is the sum of the columns of W whose inputs are active, without a
    product; above a density that is measured once on each machine it is a dense product. Whole numbers up to 127 (graded
    spikes) take the same ways with a product for each; other numbers, which are no spikes, are torch's Linear.
    `declared`: the input is known to be spikes, and all that is not 0 or 1 is refused.

    Input: spikes [T, B, ..., in_features], or the events of a sequence as `Spikes`. Output: current [T, B, ..., out_features].
    Raises: Refusal for fewer than three axes or another number of features, and when declared for other than 0 and 1.

    >>> import torch
    >>> layer = SpikeLinear(3, 2, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.25, 0.0]]))
    >>> layer(torch.tensor([[[1.0, 0.0, 1.0]]]))
    tensor([[[5.0000, 0.5000]]], grad_fn=...)
    >>> layer(Spikes.from_events(step=[0, 0], sample=[0, 0], feature=[0, 2], shape=(1, 1, 3))).tolist()
    [[[5.0, 0.5]]]
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, declared: bool = False, **factory: Any
    ) -> None:
        super().__init__(in_features, out_features, bias, **factory)
        self.declared = declared

    def forward(self, x: Tensor | Spikes) -> Tensor:
        if x.ndim < 3 or x.shape[-1] != self.in_features:
            raise Refusal(
                "SpikeLinear",
                expected=f"[T, B, ..., {self.in_features}], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make in_features fit.",
            )
        return spike_linear(x, self.weight, self.bias, self.declared, "SpikeLinear")

    def extra_repr(self) -> str:
        return super().extra_repr() + (", declared=True" if self.declared else "")
