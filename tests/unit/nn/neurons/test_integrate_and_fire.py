"""The perfect integrator: nothing leaks."""

import pytest
import torch

import ranvier


@pytest.mark.parametrize(
    ("reset_mode", "spikes", "left"), [("zero", [0, 1, 0, 1, 0], 0.75), ("subtract", [0, 1, 1, 1, 0], 0.75)]
)
def test_steps_by_hand(reset_mode, spikes, left):
    y, state = ranvier.run(ranvier.IF(reset_mode=reset_mode), torch.full((5, 1, 1), 0.75))
    assert y.flatten().tolist() == spikes and state["v"].item() == left


def test_reset_by_subtraction_loses_nothing():
    x = torch.rand(500, 2, 3, dtype=torch.float64)
    y, state = ranvier.run(ranvier.IF(threshold=1.5, reset_mode="subtract"), x)
    assert torch.allclose(1.5 * y.sum(0) + state["v"], x.sum(0))
    assert ((state["v"] >= 0) & (state["v"] < 1.5)).all()


def test_without_a_leak_the_discretisation_and_the_time_step_have_no_part():
    x = torch.randn(20, 2, 3)
    assert torch.equal(ranvier.IF(discretisation="exact", dt=1e-3)(x), ranvier.IF()(x))
