"""What training layers with learnt delays needs beside an optimiser: the course of their width, and two learning rates."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from ranvier.core.checks import Refusal


class Delayed(ABC):
    """What layers whose delays or positions are learnt have in common."""

    sigma: Tensor
    initial_sigma: float
    """what sigma was made with, where its course begins"""

    @abstractmethod
    def places(self) -> list[nn.Parameter]:
        """The learnt delays and positions."""


class SigmaSchedule:
    """The width of all delay kernels of a model, epoch by epoch: at first wide, so that far spikes are felt, then narrow.

    sigma_e = sigma_0 (end / sigma_0)^(min(e, E) / E), E = part * epochs.

    It keeps nothing: `step` at the start of each epoch, also of a run that was resumed, is all.

    Raises: Refusal for a model without delays to learn, and for an end, a part or a number of epochs that is not positive.
    Source: Hammouamri et al., ICLR 2024: a quarter of the epochs, down to 0.23.

    >>> from ranvier.nn.synapses.delayed_linear import DelayedLinear
    >>> layer = DelayedLinear(4, 2, max_delay=24)
    >>> schedule = SigmaSchedule(layer, epochs=100)
    >>> for epoch in (0, 10, 25, 99):
    ...     schedule.step(epoch)
    ...     print(f"{layer.sigma.item():.2f}")
    12.00
    2.47
    0.23
    0.23
    """

    def __init__(self, model: nn.Module, epochs: int, *, part: float = 0.25, end: float = 0.23) -> None:
        self.layers = [m for m in model.modules() if isinstance(m, Delayed)]
        if not self.layers:
            raise Refusal(
                "SigmaSchedule",
                expected="a model with delays or positions to learn",
                got=f"{type(model).__name__} without any",
                do="Give the model that holds the DelayedLinear or DelayedConv layers.",
            )
        if epochs < 1 or not 0 < part <= 1 or end <= 0:
            raise Refusal(
                "SigmaSchedule",
                expected="1 epoch or more, a part in (0, 1] and an end above 0",
                got=f"epochs={epochs}, part={part}, end={end}",
                do="Give the number of epochs of the training.",
            )
        self.epochs, self.part, self.end = epochs, part, end

    def step(self, epoch: int) -> None:
        """Set the width of this epoch, counted from 0."""
        done = min(epoch / (self.part * self.epochs), 1.0)
        for layer in self.layers:
            start = layer.initial_sigma
            # a layer that begins narrower stays as it is, and one that learns its width sees to that itself
            if start > self.end and not isinstance(layer.sigma, nn.Parameter):
                layer.sigma.data.fill_(start * (self.end / start) ** done)


def delay_groups(
    model: nn.Module, *, lr: float = 1e-3, weight_decay: float = 1e-5, delay_lr: float = 0.1
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: weights, and delays with a step of their own and without decay.

    Delays are counted in steps, weights in far smaller units, and a delay that decays moves towards 0.

    Source: Hammouamri et al., ICLR 2024.

    >>> from ranvier.nn.synapses.delayed_linear import DelayedLinear
    >>> groups = delay_groups(DelayedLinear(4, 2, max_delay=24))
    >>> [(g["name"], g["lr"], g["weight_decay"], len(g["params"])) for g in groups]
    [('weights', 0.001, 1e-05, 1), ('delays', 0.1, 0.0, 1)]
    """
    delays = {id(p): p for m in model.modules() if isinstance(m, Delayed) for p in m.places()}
    weights = [p for p in model.parameters() if id(p) not in delays]
    return [
        {"name": "weights", "params": weights, "lr": lr, "weight_decay": weight_decay},
        {"name": "delays", "params": list(delays.values()), "lr": delay_lr, "weight_decay": 0.0},
    ]
