"""Stop by the entropy of all classes in place of the confidence in one."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.deploy.early_exit.dynamic_confidence import share, warm
from ranvier.deploy.early_exit.policy import ExitPolicy


@dataclass(frozen=True)
class EntropyExit(ExitPolicy):
    """Stop when the classes' entropy is below a threshold, as a share of the largest there is.

    h[t] = - sum of p ln p / ln(classes), p = softmax(scores[t] / temperature); stop at the first t with
    h[t] < threshold. Nothing passes a threshold of 0.

    Raises: Refusal for a threshold outside 0..1 and a temperature that is not positive.
    Source: Teerapittayanon, McDanel and Kung, ICPR 2016 (BranchyNet), here over time.

    >>> EntropyExit(threshold=0.5).decide(torch.tensor([[0.0, 1.0], [0.0, 3.0]]), step=1)
    tensor([False,  True])
    """

    threshold: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        share("EntropyExit.threshold", self.threshold)
        warm("EntropyExit", self.temperature)

    def decide(self, scores: Tensor, step: int) -> Tensor:
        """Which samples [B] stop after this step."""
        p = (scores / self.temperature).softmax(-1)
        entropy: Tensor = torch.special.entr(p).sum(-1)
        return entropy < self.threshold * math.log(scores.shape[-1])
