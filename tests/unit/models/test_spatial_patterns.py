"""Patterns learnt from one presentation: what fires for what."""

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.models.spatial_patterns import (
    PatternClassifier,
    SpatialPatternDetector,
    detection_vs_hamming,
    flipped,
    overlapping,
)


def pattern(inputs=40, active=10):
    return overlapping(inputs, active, 0, torch.Generator().manual_seed(0))[0]


@pytest.mark.parametrize("factor", [1.0, 0.9, 0.8])
def test_weights_and_the_distance_that_it_fires_at(factor):
    detector, p = SpatialPatternDetector(40, 1, factor), pattern()
    detector.learn(p, 0)
    expected = torch.where(p > 0, 1.0, -1.0).double() / (factor * 10)
    torch.testing.assert_close(detector.weight[:, 0], expected)
    for distance in range(5):
        x = flipped(p, distance, 300, torch.Generator().manual_seed(distance))
        fires = detector(x[None])[0, :, 0].bool()
        assert bool((fires == (distance <= round((1 - factor) * 10))).all())


def test_drive_counts_hits_less_extras():
    detector, p = SpatialPatternDetector(40, 2, 0.5), pattern()
    detector.learn(p, 1)
    x = torch.zeros(1, 40)
    x[0, p.nonzero()[:7, 0]] = 1
    x[0, (p == 0).nonzero()[:2, 0]] = 1
    assert detector.drive(x)[0].tolist() == pytest.approx([0.0, (7 - 2) / 5])


def test_spikes_over_time_add_up_and_chunks_are_the_whole():
    detector, p = SpatialPatternDetector(40, 1, 0.8, tau=20.0), pattern()
    detector.learn(p, 0)
    x = torch.zeros(3, 1, 40)
    active = p.nonzero()[:, 0]
    x[0, 0, active[:5]], x[2, 0, active[5:]] = 1, 1
    whole, _ = ranvier.run(detector, x)
    assert whole.flatten().tolist() == [0, 0, 1]
    _, state = ranvier.run(detector, x[:1])
    assert torch.equal(ranvier.run(detector, x[1:], state)[0], whole[1:])
    assert not detector(x[[0, 2]][:1]).any()


def test_two_patterns_on_one_neuron_are_both_seen_and_blur_as_they_overlap():
    alarms = []
    for common in (0, 5, 10, 15):
        both = overlapping(100, 20, common, torch.Generator().manual_seed(common))
        detector = SpatialPatternDetector(100, 1, 1.0, "shared")
        for p in both:
            detector.learn(p, 0)
        (row,) = detection_vs_hamming(detector, both, [8], 500)
        assert row["recall"] == 1.0
        alarms.append(row["false alarms"])
    assert alarms == sorted(alarms) and alarms[-1] > alarms[0] + 0.5


def test_a_classifier_names_what_drives_most():
    model = PatternClassifier(9, 3, each=2)
    x = torch.eye(3).repeat_interleave(3, 1)
    for label, ink in enumerate(x):
        model.learn(ink, label)
    assert model(x[None]).argmax(1).tolist() == [0, 1, 2]


def test_refusals():
    detector = SpatialPatternDetector(4, 1)
    detector.learn(torch.tensor([1, 0, 0, 0]), 0)
    model = PatternClassifier(4, 1, each=1)
    model.learn(torch.ones(4), 0)
    for call in (
        lambda: detector.learn(torch.tensor([1, 0, 0, 0]), 0),
        lambda: detector.learn(torch.zeros(4), 0),
        lambda: detector.learn(torch.ones(3), 0),
        lambda: detector(torch.zeros(1, 1, 3)),
        lambda: detector(torch.full((1, 1, 4), 0.5)),
        lambda: SpatialPatternDetector(4, 1, 1.5),
        lambda: SpatialPatternDetector(4, 1, mode="both"),
        lambda: model.learn(torch.ones(4), 0),
    ):
        with pytest.raises(Refusal):
            call()
