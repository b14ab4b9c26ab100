"""The threshold and the temperature of DynamicConfidence, chosen on samples that were not trained on."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ranvier.core.checks import Refusal
from ranvier.deploy.early_exit.curves import Point, pareto
from ranvier.deploy.early_exit.dynamic_confidence import DynamicConfidence
from ranvier.deploy.early_exit.policy import checked


class Calibration(NamedTuple):
    """The policy that was chosen, and from what."""

    policy: DynamicConfidence
    front: list[Point]
    """the candidates that no other beats in latency and accuracy at once"""


def calibrate(
    scores: Tensor, labels: Tensor, tolerance: float = 0.0, temperature: float | None = None, candidates: int = 1001
) -> Calibration:
    """The smallest latency whose accuracy is that of all steps, less a tolerance, on samples kept for calibration.

    The temperature is `fit_temperature`'s unless given. Each of `candidates` thresholds from 0 to 1 has a mean latency
    and an accuracy; of those that no other beats, the fastest that is accurate enough is taken.

    Input: recorded scores [T, N, classes] and labels [N], not of the test set. Output: policy and Pareto front.
    Raises: Refusal for a recording without samples, with values that are not finite or other labels, and for a negative
    tolerance.
    Source: Li, Jones and Furber, ICCV 2023.

    >>> scores = torch.tensor([[[1.0, 0.0], [0.1, 0.0]], [[2.0, 0.0], [0.0, 1.0]]])
    >>> found = calibrate(scores, torch.tensor([0, 1]), temperature=1.0)
    >>> found.policy.threshold, found.front[-1][:2]
    (0.525, (1.5, 1.0))
    """
    checked("calibrate", scores, labels)
    if not 0 <= tolerance <= 1 or candidates < 2:
        raise Refusal(
            "calibrate",
            expected="a tolerance from 0 to 1 and two candidates or more",
            got=f"tolerance={tolerance}, candidates={candidates}",
            do="A tolerance of 0.002 gives up 0.2 points of accuracy.",
        )
    policy = DynamicConfidence(1.0, fit_temperature(scores, labels) if temperature is None else temperature)
    right = (scores.argmax(2) == labels).long()
    points = _points(policy.confidence(scores), right, torch.linspace(0, 1, candidates, dtype=torch.float64))
    front = pareto(points)
    enough = right[-1].double().mean().item() - tolerance
    chosen = next(point for point in front if point.accuracy >= enough)
    assert chosen.threshold is not None
    return Calibration(DynamicConfidence(chosen.threshold, policy.temperature), front)


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """The temperature at which the last step's probabilities are the likeliest for the labels.

    temperature = argmin of CE(scores[T] / temperature, labels): one minimum, found by ternary search of its logarithm
    within 1e-3 to 1e3 times the scores' spread.

    Raises: as calibrate.
    Source: Guo, Pleiss, Sun and Weinberger, ICML 2017 (temperature scaling).

    >>> scores = torch.tensor([[[0.0, 8.0]] * 3 + [[8.0, 0.0]]])
    >>> f"{fit_temperature(scores, torch.tensor([1, 1, 1, 1])):.3f}"  # e^(8/k) / (1 + e^(8/k)) = 3/4
    '7.282'
    """
    checked("fit_temperature", scores, labels)
    last = scores[-1].double()
    spread = math.log(max(float(last.std(1).mean()), 1e-12)) if last.shape[1] > 1 else 0.0
    low, high = spread - math.log(1e3), spread + math.log(1e3)

    def loss(logarithm: float) -> float:
        return float(cross_entropy(last / math.exp(logarithm), labels))

    while high - low > 1e-6:
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return math.exp((low + high) / 2)


def _points(confidence: Tensor, right: Tensor, thresholds: Tensor) -> list[Point]:
    """Latency and accuracy of each threshold, for confidences and 0 or 1 for right [T, N].

    A sample stops past step t when the largest confidence until t is not above the threshold. So each step but the last
    adds, for every sample up to the threshold, 1 to the latency and the change in being right: sums over a sorted row.
    """
    reached = confidence.cummax(0).values
    compared = thresholds.to(confidence.dtype)  # as decide does
    count = right.shape[1]
    steps = torch.full_like(thresholds, float(count))
    hits = torch.full_like(thresholds, float(right[0].sum()))
    for t in range(len(right) - 1):
        order = reached[t].argsort()
        place = torch.searchsorted(reached[t][order], compared, right=True)
        gained = torch.cat([right.new_zeros(1), (right[t + 1] - right[t])[order].cumsum(0)])
        steps += place
        hits += gained[place]
    rows = zip((steps / count).tolist(), (hits / count).tolist(), thresholds.tolist(), strict=True)
    return [Point(*row) for row in rows]
