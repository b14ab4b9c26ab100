"""Dynamic confidence: stop as soon as the answer is sure enough, by one threshold for all steps."""

import math
from dataclasses import dataclass

from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.deploy.early_exit.policy import ExitPolicy


@dataclass(frozen=True)
class DynamicConfidence(ExitPolicy):
    """Stop when the confidence of the answer so far is above a threshold.

    c[t] = max over classes of softmax(scores[t] / temperature); stop at the first t with c[t] > threshold. Nothing
    passes a threshold of 1, and everything one of 0.

    Raises: Refusal for a threshold outside 0..1 and a temperature that is not positive.
    Source: Li, Jones and Furber, ICCV 2023.

    >>> import torch
    >>> policy = DynamicConfidence(threshold=0.8, temperature=1.0)
    >>> policy.decide(torch.tensor([[0.0, 1.0], [0.0, 2.0]]), step=1)
    tensor([False,  True])
    """

    threshold: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        share("DynamicConfidence.threshold", self.threshold)
        warm("DynamicConfidence", self.temperature)

    def confidence(self, scores: Tensor) -> Tensor:
        """The probability of the answer, for scores [..., classes]."""
        return (scores / self.temperature).softmax(-1).amax(-1)

    def decide(self, scores: Tensor, step: int) -> Tensor:
        """Which samples [B] stop after this step."""
        return self.confidence(scores) > self.threshold


def share(owner: str, threshold: float) -> None:
    """Refuse what is no number from 0 to 1."""
    if not 0 <= threshold <= 1:
        raise Refusal(owner, expected="a number from 0 to 1", got=repr(threshold), do="Let calibrate choose it.")


def warm(owner: str, temperature: float) -> None:
    """Refuse a temperature that is not positive."""
    if not 0 < temperature < math.inf:
        raise Refusal(
            f"{owner}.temperature", expected="a positive number", got=repr(temperature), do="Let calibrate choose it."
        )
