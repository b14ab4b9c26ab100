from torch import Tensor, nn

from ranvier.core.checks import Refusal


class Direct(nn.Module):
    """Direct coding: a static input is presented as a current at every step.

    y[t] = x.

    Input: [B, ...]. Output: [T, B, ...] without copying.
    Raises: Refusal for fewer than one step.
    Source: Rueckauer et al., Front. Neurosci. 2017.

    >>> import torch
    >>> Direct(4)(torch.zeros(2, 3)).shape
    torch.Size([4, 2, 3])
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = positive("Direct", steps)

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(self.steps, *x.shape)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


def positive(owner: str, steps: int) -> int:
    """`steps`, or a refusal when there are none."""
    if steps < 1:
        raise Refusal(
            owner, expected="1 step or more", got=str(steps), do="Choose how many time steps present the input."
        )
    return steps
