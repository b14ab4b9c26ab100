from abc import abstractmethod

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful, lengths_of, state_dtype


class Decoder(Stateful):
    """The base of what reads a sequence out as one value per feature.

    A decoder accumulates, so the value after the last of several chunks is that of the whole sequence; steps past a
    sequence's end don't count.
    """

    ends_time = True  # what follows sees [B, ...]

    @abstractmethod
    def start(self, x: Tensor) -> dict[str, Tensor]:
        """The accumulators before the first step, each [B, ...]."""

    @abstractmethod
    def decode(self, x: Tensor, real: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The value so far and the accumulators; `real` [T, B, 1...] is True where a step counts."""

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if x.ndim < 3:
            raise Refusal(
                type(self).__name__,
                expected="[T, B, ...features], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze.",
            )
        if not x.is_floating_point():  # the value of integers would be rounded to one
            raise Refusal(
                type(self).__name__,
                expected="floating-point input",
                got=str(x.dtype),
                do="Convert it with x.float().",
            )
        return self.start(x.to(state_dtype(x)))

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        real = torch.arange(len(x), device=x.device)[:, None] < lengths_of(x)
        y, state = self.decode(x.to(state_dtype(x)), real.reshape(*real.shape, *[1] * (x.ndim - 2)), state)
        return y.to(x.dtype, copy=True), state  # a copy, because the state may hold y itself
