"""What is special about RectifiedSoftReset; the rest is in tests/contract/test_neurons.py."""

import math

import pytest
import torch

import ranvier

F64 = torch.float64
NEURON = ranvier.RectifiedSoftReset(surrogate=ranvier.Rectangle(width=1.0))


def phi(m):
    """The rectifier, in the words of the paper."""
    inside = 0.5 * torch.tanh(3 * (m - 0.5)) / math.tanh(1.5) + 0.5
    below, above = 1 - (1 - m.clamp(max=0)) ** (1 / 3), m.clamp(min=1) ** (1 / 3)
    return torch.where(m < 0, below, torch.where(m > 1, above, inside))


@pytest.mark.parametrize("detach_reset", [False, True])
def test_outputs_states_and_gradients_are_those_of_the_equation(detach_reset, agrees):
    def equation(x, v, p, fire):
        m = p["beta"] * v + x
        z = fire(phi(m - p["threshold"] + 0.5) - 0.5)
        return z, m - p["amplitude"] * (z.detach() if detach_reset else z)

    agrees(ranvier.RectifiedSoftReset, equation, detach_reset=detach_reset)


def test_the_rectifier_is_the_papers_and_has_no_jump():
    m = torch.linspace(-5, 5, 100_001, dtype=F64)
    assert torch.allclose(NEURON.rectify(m - 0.5) + 0.5, phi(m), rtol=1e-12)
    for joint in (-0.5, 0.5):
        sides = torch.tensor([joint - 1e-9, joint + 1e-9], dtype=F64)
        assert NEURON.rectify(sides).diff().abs() < 1e-6


def test_the_rectifier_brings_the_membrane_nearer_to_the_spike():
    m = torch.rand(100_000, dtype=F64)
    s = (m >= 0.5).to(F64)
    assert ((phi(m) - s).abs() <= (m - s).abs()).all() and (phi(m) - s).abs().mean() < (m - s).abs().mean()


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_rectified_or_not_it_fires_alike(backend):
    neuron, x = ranvier.RectifiedSoftReset(), torch.randn(1, 1, 1_000_000)
    with ranvier.backend(backend):
        assert torch.equal(neuron.train()(x), neuron.eval()(x))


def test_in_training_the_gradient_is_the_rectifiers_slope_between_zero_and_one():
    m = torch.tensor([[[-0.1, 0.001, 0.5, 0.8, 1.1]]], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(phi(m).sum(), m)
    (trained,) = torch.autograd.grad(NEURON.train()(m).sum(), m)
    (evaluated,) = torch.autograd.grad(NEURON.eval()(m).sum(), m)
    inside = torch.tensor([0, 1, 1, 1, 0])
    assert torch.allclose(trained, slope * inside, rtol=1e-12) and torch.equal(evaluated, inside[None, None].to(F64))
    assert trained.max().item() == pytest.approx(1.657, abs=1e-3)


@pytest.mark.parametrize("steps", [3, 10, 50])
def test_the_rate_comes_to_a_constant_input_within_one_spike(steps):
    x = torch.linspace(0, 1, 101, dtype=F64).expand(steps, 1, 101)
    assert ((NEURON(x).mean(0) - x[0]).abs() <= 1 / steps).all()
    hard = ranvier.TernaryLIF(tau=1e30, threshold=0.5)  # on positive input without leak: a reset to zero
    assert ((hard(x).mean(0) - x[0]).abs() > 1 / steps).any() or steps == 3


def test_by_default_a_spike_takes_more_than_the_threshold():
    _, state = ranvier.run(ranvier.RectifiedSoftReset(beta=0.5), torch.tensor([0.6, 0.5], dtype=F64).reshape(2, 1, 1))
    assert state["v"].item() == pytest.approx(0.5 * (0.6 - 1.0) + 0.5)
