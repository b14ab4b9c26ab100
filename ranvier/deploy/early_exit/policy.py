"""The base of what decides when a network has seen enough."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ranvier.core.checks import Refusal


class ExitPolicy(ABC):
    """Looks at what a network's output says so far, and says which samples need no further step.

    Scores are accumulated: the sum of the outputs of all steps so far, or the value so far of a decoder that ends the
    network. The largest is the answer.
    """

    @abstractmethod
    def decide(self, scores: Tensor, step: int) -> Tensor:
        """Which samples [B] stop after `step` steps, counted from 1, by their scores so far [B, classes]."""

    def steps(self, scores: Tensor) -> Tensor:
        """After how many steps each sample stops, by recorded scores [T, N, classes]: shape [N], T where never told to.

        Raises: Refusal for scores of another shape.
        """
        if scores.ndim != 3 or not len(scores):
            raise refused(scores)
        found = torch.full(scores.shape[1:2], len(scores), dtype=torch.int64, device=scores.device)
        open_ = torch.ones_like(found, dtype=torch.bool)
        for step, now in enumerate(scores.unbind(0), start=1):
            leave = open_ & self.decide(now, step)
            found[leave] = step
            open_ &= ~leave
        return found


def refused(scores: Tensor) -> Refusal:
    """That recorded scores have another shape."""
    return Refusal(
        "recorded scores",
        expected="[T, N, classes] of one step or more, as record gives them",
        got=f"shape {tuple(scores.shape)}",
        do="Record them with ranvier.deploy.early_exit.record(model, batches).",
    )


def checked(owner: str, scores: Tensor, labels: Tensor) -> None:
    """Refuse a recording from which nothing can be chosen: no samples, not finite, labels that are not theirs."""
    if scores.ndim != 3 or not len(scores):
        raise refused(scores)
    if not scores.shape[1]:
        raise Refusal(owner, expected="samples to calibrate on", got="none", do="Keep some that are not trained on.")
    if labels.shape != scores.shape[1:2]:
        raise Refusal(
            owner,
            expected=f"a label for each of {scores.shape[1]} samples",
            got=f"shape {tuple(labels.shape)}",
            do="Give the labels in the order in which the samples were recorded.",
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= scores.shape[2]:
        raise Refusal(
            owner,
            expected=f"labels from 0 to {scores.shape[2] - 1}",
            got=f"{low} to {high}",
            do="Number the classes from 0.",
        )
    if not bool(scores.isfinite().all()):
        sample = int((~scores.isfinite()).any(2).any(0).nonzero()[0])
        raise Refusal(
            owner,
            expected="finite scores",
            got=f"NaN or Inf for sample {sample}",
            do="Look for the layer where they begin.",
        )
