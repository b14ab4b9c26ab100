"""The cutoff of AOI-SNN: stop when the best class leads the second by enough for this step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.deploy.early_exit.policy import ExitPolicy, checked


@dataclass(frozen=True)
class TopKGap(ExitPolicy):
    """Stop when the gap between the two largest scores is above the threshold of this step.

    g[t] = top1(scores[t]) - top2(scores[t]); stop at the first t with g[t] > thresholds[t].

    Raises: Refusal for thresholds that are no numbers of 0 or more, and for a step past the last of them.
    Source: Wu, Jin, Yu, Yi and Huang, Front. Neurosci. 2023 (arXiv 2301.09522).

    >>> policy = TopKGap((2.0, 1.0))
    >>> scores = torch.tensor([[0.0, 1.5]])
    >>> policy.decide(scores, step=1), policy.decide(scores, step=2)
    (tensor([False]), tensor([True]))
    """

    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.thresholds or not all(b >= 0 for b in self.thresholds):
            raise Refusal(
                "TopKGap.thresholds",
                expected="one number of 0 or more for each step",
                got=repr(self.thresholds),
                do="Let TopKGap.fit choose them.",
            )

    @classmethod
    def fit(cls, scores: Tensor, labels: Tensor, error: float = 0.0, bins: int = 100, fewest: int = 30) -> "TopKGap":
        """The smallest thresholds past which all but a share `error` of the samples stay right until the last step.

        For `bins` candidates b, evenly spaced from 0 to the largest gap: conf(t, b) is the share, among samples with
        g[t] > b, of those that are right at t and at all later steps. thresholds[t] is the smallest b with
        conf(t, b) >= 1 - error over `fewest` samples or more; where there is none, the largest gap.

        Input: recorded scores [T, N, classes] of training samples, best with dropout at work; labels [N].
        Raises: Refusal for a recording without samples, with values that are not finite or other labels, and for an
        error outside 0..1.
        """
        checked("TopKGap.fit", scores, labels)
        if not 0 <= error <= 1 or bins < 1 or fewest < 1:
            raise Refusal(
                "TopKGap.fit",
                expected="an error from 0 to 1, and 1 or more bins and samples",
                got=f"error={error}, bins={bins}, fewest={fewest}",
                do="An error of 0.01 lets one in a hundred that stop be wrong.",
            )
        gaps = gap(scores)
        # right now and at every later step
        stays = (scores.argmax(2) == labels).flip(0).cummin(0).values.flip(0)
        largest = gaps.max()
        candidates = torch.arange(bins, device=gaps.device) * (largest / bins)
        chosen = []
        for g, right in zip(gaps, stays, strict=True):
            over = g > candidates[:, None]
            passed, wrong = over.sum(1), (over & ~right).sum(1)
            fine = (passed >= fewest) & (wrong <= error * passed)
            chosen.append(float(candidates[fine.int().argmax()] if bool(fine.any()) else largest))
        return cls(tuple(chosen))

    def decide(self, scores: Tensor, step: int) -> Tensor:
        """Which samples [B] stop after this step."""
        if step > len(self.thresholds):
            raise Refusal(
                "TopKGap",
                expected=f"at most {len(self.thresholds)} steps, each with its threshold",
                got=f"step {step}",
                do="Fit it on sequences of as many steps.",
            )
        return gap(scores) > self.thresholds[step - 1]


def gap(scores: Tensor) -> Tensor:
    """How far the largest of scores [..., classes] lies above the second."""
    if scores.shape[-1] < 2:
        raise Refusal("TopKGap", expected="two classes or more", got=f"{scores.shape[-1]}", do="Use DynamicConfidence.")
    first, second = scores.topk(2, dim=-1).values.unbind(-1)
    return first - second
