"""Reading a membrane out: its last or its largest value."""

import torch
from torch import Tensor

from ranvier.nn.coding.decoder import Decoder


class LastDecoder(Decoder):
    """The value at the last real step of each sequence.

    y = x[T - 1].

    Input: [T, B, ...features]. Output: [B, ...features].
    Raises: Refusal for input without time and batch axes.

    >>> import torch
    >>> LastDecoder()(torch.tensor([1.0, 3.0, 2.0]).reshape(3, 1, 1))
    tensor([[2.]])
    """

    def start(self, x: Tensor) -> dict[str, Tensor]:
        return {"last": torch.zeros(x.shape[1:], dtype=x.dtype, device=x.device)}

    def decode(self, x: Tensor, real: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        steps = real.sum(0, keepdim=True)
        line = torch.cat([state["last"][None], x])
        y = line.gather(0, steps.expand(1, *x.shape[1:]))[0]
        return y, {"last": y}


class MaxDecoder(Decoder):
    """The largest value over the real steps of each sequence.

    y = max over t of x[t].

    Input: [T, B, ...features]. Output: [B, ...features].
    Raises: Refusal for input without time and batch axes.
    Source: Zenke and Vogels, Neural Comput. 2021 (max-over-time readout).

    >>> import torch
    >>> MaxDecoder()(torch.tensor([1.0, 3.0, 2.0]).reshape(3, 1, 1))
    tensor([[3.]])
    """

    def start(self, x: Tensor) -> dict[str, Tensor]:
        return {"max": torch.full(x.shape[1:], -torch.inf, dtype=x.dtype, device=x.device)}

    def decode(self, x: Tensor, real: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        y = torch.cat([state["max"][None], x.masked_fill(~real, -torch.inf)]).amax(0)
        return y, {"max": y}
