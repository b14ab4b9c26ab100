from collections.abc import Sequence

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful, state_dtype


class DelayLine(Stateful):
    """Copies of the input delayed by fixed numbers of steps, side by side on the first feature axis.

    y[t] = [x[t - d] for d in delays], with zeros before the first step.

    Input: [T, B, C, ...]. Output: [T, B, C len(delays), ...], all channels of the first delay first.
    Raises: Refusal for negative, repeated or missing delays.

    >>> import torch
    >>> DelayLine([0, 2])(torch.arange(1.0, 5.0).reshape(4, 1, 1)).squeeze(1).T
    tensor([[1., 2., 3., 4.],
            [0., 0., 1., 2.]])
    """

    def __init__(self, delays: Sequence[int]) -> None:
        super().__init__()
        self.delays = tuple(delays)
        if not self.delays or min(self.delays) < 0 or len(set(self.delays)) < len(self.delays):
            raise Refusal(
                "DelayLine",
                expected="different delays of 0 or more steps",
                got=str(self.delays),
                do="Give each delay once, as steps back in time.",
            )

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if x.ndim < 3:
            raise Refusal(
                "DelayLine",
                expected="[T, B, C, ...], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze.",
            )
        past = torch.zeros(x.shape[1], max(self.delays), *x.shape[2:], dtype=state_dtype(x), device=x.device)
        return {"past": past}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        longest, steps = max(self.delays), len(x)
        line = torch.cat([state["past"].transpose(0, 1).to(x.dtype), x])
        y = torch.cat([line[longest - d : longest - d + steps] for d in self.delays], dim=2)
        past = line[steps:].transpose(0, 1).to(state["past"].dtype, copy=True)  # a view would keep the whole line
        return y, {"past": past}

    def extra_repr(self) -> str:
        return f"delays={list(self.delays)}"
