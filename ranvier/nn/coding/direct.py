from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.state import retime


class Direct(nn.Module):
    """Direct coding: a static input is presented as a current at every step.

    y[t] = x[0].

    Input: a single step [1, B, ...]. Output: [T, B, ...] without copying.
    Raises: Refusal for fewer than one step, and for an input of several.
    Source: Rueckauer et al., Front. Neurosci. 2017.

    >>> import torch
    >>> Direct(4)(torch.zeros(1, 2, 3)).shape
    torch.Size([4, 2, 3])
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = positive("Direct", steps)

    def forward(self, x: Tensor) -> Tensor:
        return static("Direct", x).expand(self.steps, *x.shape[1:])

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


def positive(owner: str, steps: int) -> int:
    """`steps`, or a refusal when there are none."""
    if steps < 1:
        raise Refusal(
            owner, expected="1 step or more", got=str(steps), do="Choose how many time steps present the input."
        )
    return steps


def static(owner: str, x: Tensor) -> Tensor:
    """`x`, or a refusal when it is not one step; from here on every sequence has the encoder's steps."""
    if x.ndim < 2 or len(x) != 1:
        raise Refusal(
            owner,
            expected="a static input as a single step [1, B, ...]",
            got=f"shape {tuple(x.shape)}",
            do="Write x.unsqueeze(0) for [B, ...]; a sequence needs no encoder that repeats it.",
        )
    retime(None)
    return x
