"""What is special about MultiThreshold; the rest is in tests/contract/test_neurons.py."""

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal

F64 = torch.float64


@pytest.mark.parametrize("detach_reset", [False, True])
def test_outputs_states_and_gradients_are_those_of_the_equation(detach_reset, agrees):
    """Of three levels: passing one adds what it has over the next."""

    def equation(x, v, p, fire):
        v, th = v + x, p["threshold"]
        z = sum(
            sign * rise * th * fire(sign * v - 0.75 * level * th)
            for sign in (1, -1)
            for level, rise in ((1, 1 / 2), (1 / 2, 1 / 4), (1 / 4, 1 / 4))
        )
        return z, v - (z.detach() if detach_reset else z)

    agrees(ranvier.MultiThreshold, equation, levels=3, detach_reset=detach_reset)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_a_spike_carries_the_nearest_level(levels):
    v = 4 * torch.randn(1, 1, 10_000, dtype=F64)
    ladder = 3.0 * 0.5 ** torch.arange(levels, dtype=F64)
    signed = torch.cat([ladder, -ladder])
    nearest = signed[(v.unsqueeze(-1) - signed).abs().argmin(-1)]
    expected = torch.where(v.abs() >= 0.75 * ladder[-1], nearest, 0.0)
    z, state = ranvier.run(ranvier.MultiThreshold(levels=levels, threshold=3.0), v)
    assert torch.equal(z, expected) and torch.equal(state["v"], (v - z)[0])


def test_the_spikes_worked_out_by_hand():
    """Membranes 0.7, 0.9, -0.3 and -0.25, with levels 1, 1/2 and 1/4."""
    x = torch.tensor([0.7, 0.7, -0.2, -0.2], dtype=F64).reshape(4, 1, 1)
    assert ranvier.MultiThreshold(levels=3)(x).flatten().tolist() == [0.5, 1.0, -0.25, -0.25]


@pytest.mark.parametrize("steps", [8, 64])
def test_the_mean_of_the_spikes_comes_to_a_constant_input_within_half_a_threshold_per_step(steps):
    """Up to 3/2 threshold the membrane keeps at most half a threshold: the nearest level is never further."""
    x = torch.linspace(-1, 1, 401, dtype=F64).expand(steps, 1, 401)
    error = (ranvier.MultiThreshold(levels=4)(x).mean(0) - x[0]).abs()
    assert error.max() <= 0.5 / steps + 1e-12


def test_the_gradient_is_that_of_a_staircase_over_all_levels():
    x = torch.tensor([[[0.4]]], dtype=F64, requires_grad=True)
    ranvier.MultiThreshold(levels=2)(x).backward()
    slopes = ranvier.Arctan().derivative(
        0.4 * torch.tensor([1.0, 1.0, -1.0, -1.0]) - torch.tensor([0.75, 0.375]).repeat(2)
    )
    assert x.grad.item() == pytest.approx(0.5 * slopes.sum().item())


def test_a_ladder_without_levels_is_refused():
    with pytest.raises(Refusal, match=r"MultiThreshold\.levels: expected a whole number of at least 1; got 0"):
        ranvier.MultiThreshold(levels=0)
