"""Escape noise: the firing rate is the probability, and its gradient the probability's."""

import pytest
import torch

import ranvier

F64 = torch.float64


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_the_rate_is_the_probability(backend):
    x = torch.tensor([0.0, 0.6, 1.0, 1.2, 2.0]).repeat_interleave(20_000).reshape(1, 1, -1)
    with ranvier.backend(backend):
        rate = ranvier.StochasticLIF(tau=1.0, width=0.3)(x).reshape(5, -1).mean(1)
    p = torch.sigmoid((torch.tensor([0.0, 0.6, 1.0, 1.2, 2.0]) - 1) / 0.3)
    assert ((rate - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()


def test_the_gradient_is_that_of_the_probability():
    x = torch.tensor([0.3, 1.0, 2.5], dtype=F64).reshape(1, 1, 3).requires_grad_()
    ranvier.StochasticLIF(tau=1.0, width=0.3)(x).sum().backward()
    p = torch.sigmoid((x.detach() - 1) / 0.3)
    assert torch.allclose(x.grad, p * (1 - p) / 0.3)


@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_with_little_noise_it_is_the_lif_neuron(reset_mode):
    x = 3 * torch.randn(100, 1, 50)
    y = ranvier.StochasticLIF(width=0.01, reset_mode=reset_mode)(x)
    assert (y != ranvier.LIF(reset_mode=reset_mode)(x)).float().mean() < 0.02


def test_the_same_seed_gives_the_same_spikes():
    x = torch.rand(20, 2, 30)
    layer = ranvier.StochasticLIF()
    _, state = ranvier.run(layer, x[:0])
    assert torch.equal(ranvier.run(layer, x, state)[0], ranvier.run(layer, x, state)[0])
    assert not torch.equal(ranvier.run(layer, x)[0], ranvier.run(layer, x)[0])
