"""The exponential integrate-and-fire neuron against its differential equation."""

import math

import pytest
import torch
from scipy.integrate import quad

import ranvier

F64 = torch.float64


def steady(x, steps, **options):
    return ranvier.ExponentialIF(**options)(torch.full((1, 1, 1), x, dtype=F64).expand(steps, 1, 1)).flatten()


@pytest.mark.parametrize(("discretisation", "a"), [("euler", 1 - 1 / 4), ("exact", math.exp(-1 / 4))])
def test_a_step_by_hand(discretisation, a):
    layer = ranvier.ExponentialIF(tau=4.0, discretisation=discretisation)
    start = {"v": torch.tensor([[0.5, 1.1, 2.0]], dtype=F64)}
    _, state = ranvier.run(layer, torch.tensor([[[0.3, -0.9, -9.0]]], dtype=F64), start)
    drives = [0.3 + 0.1 * math.exp(-5), -0.9 + 0.1 * math.exp(1), -9 + 0.1 * math.exp(3)]  # the last is cut off at 1.3
    expected = [a * v + (1 - a) * d for v, d in zip([0.5, 1.1, 2.0], drives, strict=True)]
    assert state["v"].flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("discretisation", ["euler", "exact"])
@pytest.mark.parametrize("x", [1.0, 1.5, 3.0])
def test_the_time_between_spikes_is_that_of_the_differential_equation(x, discretisation):
    expected, _ = quad(lambda v: 10 / (x - v + 0.1 * math.exp((v - 1) / 0.1)), 0, 1.3)
    spikes = steady(x, 20_000, tau=10.0, dt=0.01, discretisation=discretisation).nonzero().flatten()
    assert 0.01 * spikes.diff()[0].item() == pytest.approx(expected, rel=0.01)


def test_the_rheobase_current_divides_silence_from_firing():
    assert not steady(0.899, 2000).any() and steady(0.901, 2000).any()


@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_the_upswing_does_not_overflow(reset_mode):
    layer = ranvier.ExponentialIF(sharpness=0.01, threshold=3.0, reset_mode=reset_mode)
    x = (5 * torch.randn(200, 2, 50)).requires_grad_()
    y, state = ranvier.run(layer, x)
    y.sum().backward()
    assert y.any() and state["v"].isfinite().all() and x.grad.isfinite().all()
