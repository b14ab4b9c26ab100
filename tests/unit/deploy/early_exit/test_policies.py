"""When samples stop, for scores made by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.core.checks import Refusal
from ranvier.deploy.early_exit import (
    DynamicConfidence,
    EntropyExit,
    TopKGap,
    calibrate,
    fit_temperature,
    latency_accuracy_curve,
    reached,
)

# three samples over four steps, two classes: sure at once, sure at step 3, never sure
GAPS = torch.tensor([[4.0, 0.5, 0.0], [5.0, 1.0, 0.1], [6.0, 4.0, 0.2], [7.0, 5.0, 0.1]])
SCORES = torch.stack([torch.zeros_like(GAPS), GAPS], 2)


def recorded(n=200, steps=6, classes=4, seed=0):
    """Scores that become right one after the other, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    noise = torch.randn(steps, n, classes, generator=generator) * 2
    outputs = noise + torch.nn.functional.one_hot(labels, classes) * 0.9
    return outputs.cumsum(0), labels


def test_dynamic_confidence_stops_at_the_first_step_above_the_threshold():
    assert DynamicConfidence(0.9).steps(SCORES).tolist() == [1, 3, 4]
    warm = DynamicConfidence(0.9, temperature=2.0)  # sigmoid(gap / 2) > 0.9 from a gap of 4.39 on
    assert warm.steps(SCORES).tolist() == [2, 4, 4]
    assert warm.confidence(SCORES)[0, 0].item() == pytest.approx(1 / (1 + math.exp(-2)))


def test_thresholds_of_one_and_zero_are_the_whole_run_and_a_single_step():
    sure = SCORES * 1e6  # float32 gives a confidence of exactly 1
    assert DynamicConfidence(1.0).steps(sure).tolist() == [4, 4, 4]
    assert DynamicConfidence(0.0).steps(SCORES).tolist() == [1, 1, 1]
    assert EntropyExit(0.0).steps(sure).tolist() == [4, 4, 4]
    assert EntropyExit(1.0).steps(SCORES[:, :2]).tolist() == [1, 1]


def test_entropy_and_confidence_agree_for_two_classes():
    p = 0.9
    h = -(p * math.log2(p) + (1 - p) * math.log2(1 - p))
    assert EntropyExit(h).steps(SCORES).tolist() == DynamicConfidence(p).steps(SCORES).tolist()


def test_a_gap_is_compared_with_the_threshold_of_its_step():
    assert TopKGap((4.5, 0.9, 9.0, 9.0)).steps(SCORES).tolist() == [2, 2, 4]
    three = torch.tensor([[[1.0, 5.0, 3.5]]])
    assert TopKGap((1.4,)).decide(three[0], 1).item() and not TopKGap((1.5,)).decide(three[0], 1).item()


@given(st.integers(0, 1000))
def test_mean_steps_never_fall_with_the_threshold(seed):
    scores, labels = recorded(40, seed=seed)
    line = latency_accuracy_curve([DynamicConfidence(c / 20) for c in range(21)], scores, labels)
    assert all(a.steps <= b.steps for a, b in itertools.pairwise(line))
    assert line[-1] == reached(torch.full((40,), 6), scores, labels, 1.0)


def test_calibration_finds_the_fastest_threshold_that_loses_nothing():
    scores, labels = recorded()
    whole = reached(torch.full((200,), 6), scores, labels).accuracy
    for tolerance in (0.0, 0.02, 1.0):
        found = calibrate(scores, labels, tolerance)
        simulated = latency_accuracy_curve(
            [DynamicConfidence(c / 1000, found.policy.temperature) for c in range(1001)], scores, labels
        )
        enough = [p for p in simulated if p.accuracy >= whole - tolerance]
        assert min(p.steps for p in enough) == pytest.approx(found.front[found.front.index(chosen(found))].steps)
        mine = reached(found.policy.steps(scores), scores, labels)
        assert mine.steps == pytest.approx(chosen(found).steps) and mine.accuracy >= whole - tolerance - 1e-12
    assert found.policy.threshold == 0.0 and mine.steps == 1.0  # anything goes: at once


def chosen(found):
    return next(p for p in found.front if p.threshold == found.policy.threshold)


def test_the_front_is_what_no_other_threshold_beats():
    scores, labels = recorded(seed=3)
    found = calibrate(scores, labels)
    assert all(
        a.steps < b.steps and a.accuracy < b.accuracy for a, b in zip(found.front, found.front[1:], strict=False)
    )
    for p in found.front:
        again = reached(DynamicConfidence(p.threshold, found.policy.temperature).steps(scores), scores, labels)
        assert again.steps == pytest.approx(p.steps) and again.accuracy == pytest.approx(p.accuracy)


def test_the_temperature_minimises_the_negative_log_likelihood():
    scores, labels = recorded(seed=5)
    best = fit_temperature(scores, labels)
    loss = [torch.nn.functional.cross_entropy(scores[-1] / k, labels).item() for k in (best, 0.98 * best, 1.02 * best)]
    assert loss[0] == min(loss)
    assert fit_temperature(scores * 8, labels) == pytest.approx(8 * best, rel=1e-4)


@given(st.integers(0, 1000), st.sampled_from([1, 5, 30]))
def test_no_error_on_the_fitting_set_when_none_is_allowed(seed, fewest):
    scores, labels = recorded(120, seed=seed)
    steps = TopKGap.fit(scores, labels, error=0.0, fewest=fewest).steps(scores)
    said = scores[steps - 1, torch.arange(120)].argmax(1)
    assert bool((said == labels)[steps < 6].all())
    assert reached(steps, scores, labels).accuracy >= reached(torch.full((120,), 6), scores, labels).accuracy


def test_gap_thresholds_are_those_of_the_definition():
    scores, labels = recorded(150, seed=2)
    policy = TopKGap.fit(scores, labels, error=0.1, bins=50, fewest=10)
    top = scores.sort(2).values
    gaps, right = top[..., -1] - top[..., -2], scores.argmax(2) == labels
    for t in range(6):
        found = gaps.max().item()
        for b in [gaps.max().item() * m / 50 for m in range(50)]:
            over = gaps[t] > b
            if over.sum() >= 10 and right[t:].all(0)[over].double().mean() >= 0.9:
                found = b
                break
        assert policy.thresholds[t] == pytest.approx(found, rel=1e-5)


def test_more_error_stops_sooner():
    scores, labels = recorded(seed=4)
    mean = [TopKGap.fit(scores, labels, e).steps(scores).double().mean().item() for e in (0.0, 0.1, 0.3, 1.0)]
    assert mean == sorted(mean, reverse=True) and mean[-1] == 1.0


def test_too_few_samples_never_stop_early():
    scores, labels = recorded(20)
    assert TopKGap.fit(scores, labels, error=0.5).steps(scores).tolist() == [6] * 20


@pytest.mark.parametrize("policy", [DynamicConfidence, EntropyExit])
@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_thresholds_outside_zero_to_one_are_refused(policy, threshold):
    with pytest.raises(Refusal, match="from 0 to 1"):
        policy(threshold)


def test_other_bad_settings_are_refused():
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(Refusal, match="positive"):
            DynamicConfidence(0.5, temperature)
    for thresholds in ((), (1.0, -1.0), (math.nan,)):
        with pytest.raises(Refusal, match="each step"):
            TopKGap(thresholds)
    with pytest.raises(Refusal, match="at most 1 steps"):
        TopKGap((1.0,)).decide(SCORES[0], 2)
    with pytest.raises(Refusal, match="two classes"):
        TopKGap((1.0,)).decide(torch.zeros(3, 1), 1)
    scores, labels = recorded(40)
    with pytest.raises(Refusal, match="tolerance"):
        calibrate(scores, labels, tolerance=-0.1)
    with pytest.raises(Refusal, match="error"):
        TopKGap.fit(scores, labels, error=1.5)


@pytest.mark.parametrize("choose", [calibrate, fit_temperature, TopKGap.fit])
def test_a_recording_from_which_nothing_can_be_chosen_is_refused(choose):
    scores, labels = recorded(10)
    with pytest.raises(Refusal, match="samples to calibrate on"):
        choose(scores[:, :0], labels[:0])
    with pytest.raises(Refusal, match="a label for each"):
        choose(scores, labels[:9])
    with pytest.raises(Refusal, match="labels from 0 to 3"):
        choose(scores, labels + 1)
    with pytest.raises(Refusal, match=r"\[T, N, classes\]"):
        choose(scores[0], labels)
    scores[2, 7, 1] = math.nan
    with pytest.raises(Refusal, match="sample 7"):
        choose(scores, labels)
