"""Latency coding: large values fire early, and the first to fire wins."""

import torch
from torch import Tensor, nn

from ranvier.nn.coding.decoder import Decoder
from ranvier.nn.coding.direct import positive, static


class LatencyEncoder(nn.Module):
    """Latency coding: each value fires once, the larger the earlier.

    z[t] = 1 at t = round((1 - x) (T - 1)); 1 and more fire at the first step, 0 and less never. No gradient passes.

    Input: a single step [1, B, ...]. Output: spikes [T, B, ...].
    Raises: Refusal for fewer than one step, and for an input of several.
    Source: Thorpe and Gautrais 1998; linear form as in Mostafa, IEEE TNNLS 2018.

    >>> import torch
    >>> LatencyEncoder(3)(torch.tensor([[[1.0, 0.5, 0.0]]])).squeeze(1).T
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 0.]])
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = positive("LatencyEncoder", steps)

    def forward(self, x: Tensor) -> Tensor:
        x = static("LatencyEncoder", x)
        time = ((1 - x.detach().clamp(0, 1)) * (self.steps - 1)).round()
        t = torch.arange(self.steps, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
        return ((time == t) & (x > 0)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class FirstSpikeDecoder(Decoder):
    """Time of the first spike, in steps; T where none came. The smallest wins.

    y = sum over t of prod over s <= t of (1 - z[s]): the number of steps still waiting, which has a gradient.

    Input: spikes [T, B, ...features]. Output: [B, ...features].
    Raises: Refusal for input without time and batch axes.

    >>> import torch
    >>> FirstSpikeDecoder()(torch.tensor([[0.0, 1, 0, 1], [0, 0, 0, 0]]).T.reshape(4, 1, 2))
    tensor([[1., 4.]])
    """

    def start(self, x: Tensor) -> dict[str, Tensor]:
        zero = torch.zeros(x.shape[1:], dtype=x.dtype, device=x.device)
        return {"waiting": zero + 1, "time": zero}

    def decode(self, x: Tensor, real: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        waiting = torch.cat([state["waiting"][None], 1 - x.masked_fill(~real, 0.0)]).cumprod(0)
        time = state["time"] + waiting[1:].masked_fill(~real, 0.0).sum(0)
        return time, {"waiting": waiting[-1], "time": time}
