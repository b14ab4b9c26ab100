"""Spikes drawn from gap to gap."""

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.ops.bernoulli_spikes import bernoulli_spikes


def seeds(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


@pytest.mark.parametrize(("batch", "inputs", "steps"), [(3, 50, 400), (1, 1, 1), (2, 5, 0), (1, 0, 10)])
def test_kernel_is_the_reference(batch, inputs, steps):
    chance = torch.rand(batch, inputs, generator=torch.Generator().manual_seed(0)) ** 3
    chance[:, ::7], chance[:, 1::7] = 0, 1
    found = bernoulli_spikes(chance, steps, seeds(*range(-1, batch - 1)))
    with ranvier.backend("reference"):
        expected = bernoulli_spikes(chance, steps, seeds(*range(-1, batch - 1)))
    assert torch.equal(found.pointer, expected.pointer) and torch.equal(found.dense(), expected.dense())
    assert found.dense().max() <= 1 if found.dense().numel() else True


def test_rates_are_the_chances_and_steps_are_independent():
    chance = torch.tensor([[0.01, 0.05, 0.3, 0.9]])
    x = bernoulli_spikes(chance, 100_000, seeds(5)).dense()[:, 0]
    assert torch.allclose(x.mean(0), chance[0], atol=0.005)
    both = (x[1:] * x[:-1]).mean(0)
    assert torch.allclose(both, chance[0] ** 2, atol=0.005)
    assert torch.corrcoef(x.t())[0, 1].abs() < 0.02


def test_a_sample_depends_on_its_seed_alone():
    chance = torch.full((2, 9), 0.2)
    both = bernoulli_spikes(chance, 50, seeds(3, 4)).dense()
    assert torch.equal(both[:, 1:], bernoulli_spikes(chance[:1], 50, seeds(4)).dense())
    assert not torch.equal(both[:, 0], both[:, 1])


def test_refusals():
    for chance, steps, seed in (
        (torch.tensor([[1.5]]), 3, seeds(1)),
        (torch.tensor([[float("nan")]]), 3, seeds(1)),
        (torch.tensor([0.5]), 3, seeds(1)),
        (torch.tensor([[0.5]]), 3, seeds(1, 2)),
        (torch.tensor([[0.5]]), -1, seeds(1)),
    ):
        with pytest.raises(Refusal):
            bernoulli_spikes(chance, steps, seed)
