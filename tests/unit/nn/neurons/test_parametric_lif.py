"""PLIF: the LIF neuron whose time constant is learnt through a sigmoid."""

import math

import pytest
import torch
from torch import nn

import ranvier


@pytest.mark.parametrize("discretisation", ["euler", "exact"])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_with_w_0_it_is_the_lif_neuron_of_two_steps(reset_mode, discretisation):
    x = 2 * torch.randn(30, 2, 3)
    options = {"reset_mode": reset_mode, "discretisation": discretisation}
    y, state = ranvier.run(ranvier.ParametricLIF(**options), x)
    z, other = ranvier.run(ranvier.LIF(tau=2.0, **options), x)
    assert torch.equal(y, z) and torch.equal(state["v"], other["v"]) and y.any()


@pytest.mark.parametrize("dt", [1.0, 1e-3])
def test_a_step_and_its_gradient_by_hand(dt):
    layer = ranvier.ParametricLIF(
        w=nn.Parameter(torch.tensor(1.2, dtype=torch.float64)), threshold=9.0, dt=dt, detach_reset=True
    )
    x = torch.tensor([1.0, 3.0], dtype=torch.float64).reshape(2, 1, 1)
    _, state = ranvier.run(layer, x)
    k = 1 / (1 + math.exp(-1.2))  # v1 = k; v2 = v1 + k (3 - v1) = 4 k - k^2
    assert state["v"].item() == pytest.approx(4 * k - k * k, rel=1e-12)
    state["v"].backward()
    assert layer.w.grad.item() == pytest.approx((4 - 2 * k) * k * (1 - k), rel=1e-12)


def test_w_is_learnt_unless_a_number_fixes_it():
    assert [(name, w.item()) for name, w in ranvier.ParametricLIF().named_parameters()] == [("w", 0.0)]
    assert not list(ranvier.ParametricLIF(w=0.5).parameters())
    own = nn.Parameter(torch.zeros(3))
    assert ranvier.ParametricLIF(w=own).w is own
