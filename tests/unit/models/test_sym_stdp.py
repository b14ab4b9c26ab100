"""A classifier that learns from spikes alone."""

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.models.sym_stdp import Labels, PoissonImages, Presentation, SymSTDPClassifier


def model(**options):
    torch.manual_seed(0)
    return SymSTDPClassifier(16, 12, 3, **options)


def images(count=1):
    ink = torch.zeros(count, 16)
    label = torch.arange(count) % 3
    for i in range(count):
        ink[i, 5 * int(label[i]) : 5 * int(label[i]) + 6] = 1
    return ink, label


def numbers(count):
    return 64 * torch.arange(count)


def test_test_mode_changes_nothing_and_chunks_are_the_whole():
    classifier, x = model(), (torch.rand(300, 2, 16) < 0.2).float()
    before = [b.clone() for b in classifier.buffers()]
    whole, end, recorded = ranvier.run(classifier, x, record=("spikes",))
    first, state = ranvier.run(classifier, x[:111])
    second, state = ranvier.run(classifier, x[111:], state)
    assert torch.equal(torch.cat([first, second]), whole) and recorded["spikes"].shape == (300, 2, 12)
    assert recorded["spikes"].any() and torch.equal(state["v"], end["v"])
    classifier.respond(images(2)[0], numbers(2))
    assert all(torch.equal(a, b) for a, b in zip(before, classifier.buffers(), strict=True))


def test_it_learns_three_patterns():
    torch.manual_seed(0)
    classifier, state = SymSTDPClassifier(144, 12, 3), None
    ink, label = torch.eye(3).repeat_interleave(48, 1), torch.arange(3)
    for i in range(90):
        which = torch.tensor([i % 3])
        _, state = classifier.learn(ink[which], label[which], numbers(1) + 1000 * i, state)
    label = torch.arange(9) % 3
    output, hidden = classifier.respond(ink[label], numbers(9))
    assert torch.equal(output.argmax(1), label)
    labels = Labels(3)
    labels.add(hidden, label)
    assert torch.equal(labels.scores(hidden).argmax(1), label)


def test_several_images_at_once_change_the_weights_by_the_mean():
    options = {"presentation": Presentation(strongest=2)}
    ink, label = images(2)
    both = model(**options)
    both.learn(ink, label, numbers(2))
    alone = [model(**options) for _ in range(2)]
    for i, classifier in enumerate(alone):
        classifier.learn(ink[i : i + 1], label[i : i + 1], numbers(2)[i : i + 1])
    for name, value in both.named_buffers():
        torch.testing.assert_close(value, sum(dict(c.named_buffers())[name] for c in alone) / 2)


def test_weights_add_up_and_are_the_same_for_the_same_seed():
    ink, label = images()
    found = []
    for _ in range(2):
        classifier = model()
        classifier.learn(ink, label, numbers(1))
        found.append(classifier.weight.clone())
    assert torch.equal(*found)
    assert bool((found[0].sum(0) >= 1.6 * (1 - 1e-5)).all())  # scaled to 0.1 times 16, and grown since


def test_without_adaptation_thresholds_stay():
    classifier = model(adaptive=False)
    classifier.learn(*images(), numbers(1))
    assert torch.equal(classifier.theta, torch.full((12,), 20.0))


def test_images_are_the_same_spikes_every_time():
    x = torch.rand(1, 2, 1, 4, 4)
    assert torch.equal(PoissonImages()(x), PoissonImages()(x)) and PoissonImages()(x).shape == (700, 2, 16)


def test_refusals():
    for call in (
        lambda: SymSTDPClassifier(0),
        lambda: model()(torch.zeros(3, 1, 5)),
        lambda: model()(torch.full((3, 1, 16), 0.3)),
        lambda: PoissonImages()(torch.zeros(2, 1, 4)),
    ):
        with pytest.raises(Refusal):
            call()
