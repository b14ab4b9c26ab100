"""Accuracy against latency, of policies, of a fixed number of steps, and of an oracle that knows the labels."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.deploy.early_exit.policy import ExitPolicy, checked


class Point(NamedTuple):
    """What one way of stopping costs and yields."""

    steps: float
    """mean over the samples"""
    accuracy: float
    threshold: float | None = None


def reached(steps: Tensor, scores: Tensor, labels: Tensor, threshold: float | None = None) -> Point:
    """Mean steps and accuracy when sample n is stopped after steps[n] of the recorded scores [T, N, classes]."""
    checked("accuracy", scores, labels)
    said = scores[steps - 1, torch.arange(len(steps))].argmax(1)
    return Point(steps.double().mean().item(), (said == labels).double().mean().item(), threshold)


def latency_accuracy_curve(policies: Iterable[ExitPolicy], scores: Tensor, labels: Tensor) -> list[Point]:
    """A point for each policy, without running the network again.

    >>> from ranvier.deploy.early_exit import DynamicConfidence
    >>> scores = torch.tensor([[[0.2, 0.0], [0.1, 0.0]], [[0.3, 0.0], [0.0, 5.0]]])
    >>> [p[:2] for p in latency_accuracy_curve([DynamicConfidence(c) for c in (0.0, 1.0)], scores, torch.tensor([0, 1]))]
    [(1.0, 0.5), (2.0, 1.0)]
    """
    return [reached(p.steps(scores), scores, labels, getattr(p, "threshold", None)) for p in policies]


def fixed_curve(scores: Tensor, labels: Tensor) -> list[Point]:
    """A point for each number of steps at which all samples stop."""
    return [Point(float(t), accuracy) for t, accuracy in enumerate(anytime_accuracy(scores, labels).tolist(), start=1)]


def anytime_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """The accuracy after each step, [T]."""
    checked("accuracy", scores, labels)
    return (scores.argmax(2) == labels).double().mean(1)


def oracle_exit(scores: Tensor, labels: Tensor) -> Tensor:
    """The first step [N], counted from 1, at which a sample is right; T where it never is.

    >>> scores = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    >>> oracle_exit(scores, torch.tensor([0])), optimal_cutoff_time(scores, torch.tensor([0]))
    (tensor([1]), tensor([3]))
    """
    checked("oracle", scores, labels)
    right = scores.argmax(2) == labels
    return torch.where(right.any(0), right.int().argmax(0), len(right) - 1) + 1


def optimal_cutoff_time(scores: Tensor, labels: Tensor) -> Tensor:
    """The first step [N], counted from 1, from which on a sample stays right until the end; T where it is not even then.

    Source: Wu, Jin, Yu, Yi and Huang, Front. Neurosci. 2023.
    """
    checked("oracle", scores, labels)
    wrong = scores.argmax(2) != labels
    # the step after the last wrong one
    return (len(wrong) - wrong.flip(0).int().argmax(0)).where(wrong.any(0), 0).clamp(max=len(wrong) - 1) + 1


def oracle_curve(scores: Tensor, labels: Tensor) -> list[Point]:
    """The most that any way of stopping can reach, for each latency: the upper end of all points.

    Point s lets a sample that is first right at step s or before stop there, and all others at step 1. Samples that are
    right soonest yield most for their steps, so no policy lies above the line through the points.

    >>> scores = torch.tensor([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
    >>> oracle_curve(scores, torch.tensor([0, 1]))
    [Point(steps=1.0, accuracy=0.5, threshold=None), Point(steps=1.5, accuracy=1.0, threshold=None)]
    """
    first, right = oracle_exit(scores, labels), (scores.argmax(2) == labels).any(0)
    points = []
    for s in range(1, len(scores) + 1):
        served = right & (first <= s)
        points.append(Point(torch.where(served, first, 1).double().mean().item(), served.double().mean().item()))
    return points


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in latency and accuracy at once, by latency.

    >>> pareto([Point(2.0, 0.8), Point(1.0, 0.5), Point(3.0, 0.7)])
    [Point(steps=1.0, accuracy=0.5, threshold=None), Point(steps=2.0, accuracy=0.8, threshold=None)]
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.steps, -p.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def expected_calibration_error(confidence: Tensor, right: Tensor, bins: int = 15) -> float:
    """How far confidence is from the share that is right, on average: sum over bins of n/N |mean confidence - share right|.

    Input: confidence in 0..1 and right, whether the answer was, of one shape. Output: 0 for perfect calibration.
    Raises: Refusal for none, for other shapes and for confidences outside 0..1.
    Source: Naeini, Cooper and Hauskrecht, AAAI 2015; Guo, Pleiss, Sun and Weinberger, ICML 2017, eq. 3.

    >>> expected_calibration_error(torch.tensor([0.75, 0.75]), torch.tensor([True, False]))
    0.25
    """
    if (
        not confidence.numel()
        or confidence.shape != right.shape
        or not bool(((confidence >= 0) & (confidence <= 1)).all())
    ):
        raise Refusal(
            "expected_calibration_error",
            expected="confidences from 0 to 1, and whether each answer was right",
            got=f"shapes {tuple(confidence.shape)} and {tuple(right.shape)}",
            do="Take DynamicConfidence.confidence of recorded scores.",
        )
    c, hit = confidence.flatten().double(), right.flatten().double()
    place = (c * bins).ceil().long().clamp(1, bins) - 1  # upper edges belong to their bin
    excess = torch.zeros(bins, dtype=torch.float64, device=c.device).index_add_(0, place, c - hit)
    return float(excess.abs().sum() / len(c))
