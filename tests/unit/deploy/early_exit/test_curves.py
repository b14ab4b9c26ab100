"""Accuracy against latency: of fixed times, of policies, and of an oracle that nothing beats."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.core.checks import Refusal
from ranvier.deploy.early_exit import (
    DynamicConfidence,
    EntropyExit,
    Point,
    TopKGap,
    anytime_accuracy,
    expected_calibration_error,
    fixed_curve,
    latency_accuracy_curve,
    optimal_cutoff_time,
    oracle_curve,
    oracle_exit,
    pareto,
    reached,
)

# who is right when: at once, from step 2, only at step 2, never
RIGHT = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.float32)
SCORES, LABELS = torch.stack([1 - RIGHT, RIGHT], 2), torch.ones(4, dtype=torch.int64)


def test_oracles_by_hand():
    assert oracle_exit(SCORES, LABELS).tolist() == [1, 2, 2, 3]
    assert optimal_cutoff_time(SCORES, LABELS).tolist() == [1, 2, 3, 3]
    assert reached(oracle_exit(SCORES, LABELS), SCORES, LABELS) == Point(2.0, 0.75)
    assert oracle_curve(SCORES, LABELS) == [Point(1.0, 0.25), Point(1.5, 0.75), Point(1.5, 0.75)]


def test_fixed_times_by_hand():
    assert anytime_accuracy(SCORES, LABELS).tolist() == [0.25, 0.75, 0.5]
    assert fixed_curve(SCORES, LABELS) == [Point(1.0, 0.25), Point(2.0, 0.75), Point(3.0, 0.5)]


def best_at(points, steps):
    """The accuracy on the line through the oracle's points at a latency."""
    front = pareto(points)
    for a, b in itertools.pairwise(front):
        if a.steps <= steps <= b.steps:
            return a.accuracy + (b.accuracy - a.accuracy) * (steps - a.steps) / (b.steps - a.steps)
    return front[-1].accuracy


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 30), st.integers(2, 4))
def test_the_oracle_is_never_worse_than_any_policy_at_equal_latency(seed, steps, count, classes):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(steps, count, classes, generator=generator).cumsum(0)
    labels = torch.randint(classes, (count,), generator=generator)
    anyhow = torch.randint(1, steps + 1, (count,), generator=generator)
    shares = [i / 10 for i in range(11)]
    policies = [kind(c) for kind in (DynamicConfidence, EntropyExit) for c in shares]
    policies += [TopKGap.fit(scores, labels, error, fewest=1) for error in shares]
    oracle = oracle_curve(scores, labels)
    points = latency_accuracy_curve(policies, scores, labels) + fixed_curve(scores, labels)
    for point in [*points, reached(anyhow, scores, labels)]:
        assert point.accuracy <= best_at(oracle, point.steps) + 1e-9


@given(st.integers(0, 10_000))
def test_the_oracle_is_as_right_as_the_whole_run_and_sooner(seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, 25, 3, generator=generator).cumsum(0)
    labels = torch.randint(3, (25,), generator=generator)
    oracle, stays = (reached(f(scores, labels), scores, labels) for f in (oracle_exit, optimal_cutoff_time))
    assert oracle.accuracy >= stays.accuracy == anytime_accuracy(scores, labels)[-1].item()
    assert oracle.steps <= stays.steps <= 5


def test_calibration_error_by_hand():
    confidence = torch.tensor([0.95, 0.95, 0.95, 0.95, 0.25, 0.25])
    right = torch.tensor([True, True, True, False, False, True])
    expected = 4 / 6 * abs(0.95 - 0.75) + 2 / 6 * abs(0.25 - 0.5)
    assert expected_calibration_error(confidence, right, bins=10) == pytest.approx(expected)
    assert expected_calibration_error(torch.tensor([0.0, 1.0]), torch.tensor([False, True])) == 0.0


def test_what_has_no_calibration_error_is_refused():
    for c, r in (
        (torch.zeros(0), torch.zeros(0)),
        (torch.tensor([1.5]), torch.ones(1)),
        (torch.ones(2), torch.ones(1)),
    ):
        with pytest.raises(Refusal, match="confidences from 0 to 1"):
            expected_calibration_error(c, r)


def test_no_samples_have_no_accuracy():
    for function in (anytime_accuracy, oracle_exit, optimal_cutoff_time, oracle_curve, fixed_curve):
        with pytest.raises(Refusal, match="samples"):
            function(SCORES[:, :0], LABELS[:0])
