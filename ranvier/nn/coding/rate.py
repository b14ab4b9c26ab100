"""Rate coding: values as firing probabilities, and firing rates as values."""

import torch
from torch import Tensor

from ranvier.core.random import fresh_seeds, uniform
from ranvier.core.state import Stateful
from ranvier.nn.coding.decoder import Decoder
from ranvier.nn.coding.direct import positive, static


class RateEncoder(Stateful):
    """Rate coding: at every step each value fires with a probability equal to itself.

    z[t] = uniform(seed, t) < x, so values of 0 and less never fire and 1 and more always do; the gradient passes as
    that of the mean, x. Without a `seed` each sequence draws one from torch's generator; it is part of the state, so a
    continued run goes on in the same stream.

    Input: a single step [1, B, ...]. Output: spikes [T, B, ...].
    Raises: Refusal for fewer than one step, and for an input of several.
    Source: Adrian 1926; as network input Diehl and Cook, Front. Comput. Neurosci. 2015.

    >>> import torch
    >>> RateEncoder(1000, seed=0)(torch.tensor([[[0.0, 0.25, 1.0]]])).mean((0, 1))
    tensor([0.0000, 0.2560, 1.0000])
    """

    def __init__(self, steps: int, seed: int | None = None) -> None:
        super().__init__()
        self.steps, self.seed = positive("RateEncoder", steps), seed

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        batch = static("RateEncoder", x).shape[1]
        seed = fresh_seeds(batch, x.device, self.seed)
        return {"seed": seed, "step": torch.zeros(batch, dtype=torch.int64, device=x.device)}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        ones = [1] * (x.ndim - 2)
        step = state["step"] + torch.arange(self.steps, device=x.device)[:, None]
        element = torch.arange(x.shape[2:].numel(), device=x.device).reshape(x.shape[2:])
        u = uniform(state["seed"].reshape(-1, *ones), step.reshape(*step.shape, *ones), element)
        z = (u < x).to(x.dtype) + (x - x.detach())
        return z, {"seed": state["seed"], "step": state["step"] + self.steps}

    def extra_repr(self) -> str:
        return f"steps={self.steps}, seed={self.seed}"


class RateDecoder(Decoder):
    """Mean over time: of spikes the firing rate, of a membrane its mean.

    y = sum over t of x[t] / T, over the real steps of each sequence.

    Input: [T, B, ...features]. Output: [B, ...features].
    Raises: Refusal for input without time and batch axes.

    >>> import torch
    >>> RateDecoder()(torch.tensor([1.0, 0.0, 1.0, 1.0]).reshape(4, 1, 1))
    tensor([[0.7500]])
    """

    def start(self, x: Tensor) -> dict[str, Tensor]:
        count = torch.zeros(x.shape[1], *[1] * (x.ndim - 2), dtype=x.dtype, device=x.device)
        return {"sum": torch.zeros(x.shape[1:], dtype=x.dtype, device=x.device), "count": count}

    def decode(self, x: Tensor, real: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        total = state["sum"]
        for x_t in x.masked_fill(~real, 0.0).unbind(0):  # one by one: chunks then add up to the same bits
            total = total + x_t
        count = state["count"] + real.sum(0)
        return total / count.clamp_min(1), {"sum": total, "count": count}
