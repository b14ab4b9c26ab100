"""The quadratic integrate-and-fire neuron against its differential equation, whose period has a closed form."""

import math

import pytest
import torch

import ranvier

F64 = torch.float64


def period(x, discretisation="euler"):
    """Time to the first spike from 0, to where each sets it back, with tau = 10, critical = 0.5 and threshold = 1."""
    layer = ranvier.QuadraticIF(tau=10.0, dt=0.02, discretisation=discretisation)
    y = layer(torch.full((1, 1, 1), x, dtype=F64).expand(40_000, 1, 1)).flatten()
    return 0.02 * y.nonzero().flatten()[0].item()


@pytest.mark.parametrize(("discretisation", "a"), [("euler", 1 - 1 / 4), ("exact", math.exp(-1 / 4))])
def test_a_step_by_hand(discretisation, a):
    layer = ranvier.QuadraticIF(tau=4.0, discretisation=discretisation)
    start = {"v": torch.tensor([[0.3, -0.6, -7.0]], dtype=F64)}
    _, state = ranvier.run(layer, torch.tensor([[[0.2, 0.1, 0.0]]], dtype=F64), start)
    drives = [0.2 + 0.09 / 0.5, 0.1 + 0.36 / 0.5, 1.0 / 0.5]  # below -threshold the square stays what it is there
    expected = [a * v + (1 - a) * d for v, d in zip([0.3, -0.6, -7.0], drives, strict=True)]
    assert state["v"].flatten().tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("discretisation", ["euler", "exact"])
@pytest.mark.parametrize("x", [0.13, 0.3, 2.0])
def test_the_time_between_spikes_is_that_of_the_differential_equation(x, discretisation):
    root = math.sqrt(0.5 * (x - 0.125))
    expected = 10 * 0.5 / root * (math.atan(0.75 / root) + math.atan(0.25 / root))
    assert period(x, discretisation) == pytest.approx(expected, rel=0.01)


def test_the_rate_grows_with_the_square_root_of_what_exceeds_the_rheobase_current():
    assert period(0.125 + 1e-3) / period(0.125 + 4e-3) == pytest.approx(2, rel=0.05)
    assert not ranvier.QuadraticIF()(torch.full((2000, 1, 1), 0.1249)).any()


def test_strong_inhibition_does_not_make_it_fire():
    x = torch.cat([torch.full((20, 1, 1), -100.0), torch.zeros(200, 1, 1)])
    assert not ranvier.QuadraticIF()(x).any()
