"""What is special about ComplementaryLIF; the rest is in tests/contract/test_neurons.py."""

import math

import pytest
import torch

import ranvier

F64 = torch.float64


def sigmoid(u):
    return 1 / (1 + math.exp(-u))


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_outputs_states_and_gradients_are_those_of_the_equation(reset_mode, detach_reset, agrees):
    def equation(x, v, m, p, fire):
        v = (1 - 1 / p["tau"]) * v + x
        z = fire(v - p["threshold"])
        m = m / (1 + torch.exp(-v / p["tau"])) + z
        s = z.detach() if detach_reset else z
        deeper = 1 / (1 + torch.exp(-m))
        return z, v - s * (deeper + (p["threshold"] if reset_mode == "subtract" else v)), m

    agrees(ranvier.ComplementaryLIF, equation, reset_mode=reset_mode, detach_reset=detach_reset)


@pytest.mark.parametrize("reset_mode", ["subtract", "zero"])
def test_two_spikes_worked_out_by_hand(reset_mode):
    x = torch.tensor([1.2, 2.0], dtype=F64).reshape(2, 1, 1)
    z, state = ranvier.run(ranvier.ComplementaryLIF(tau=2.0, reset_mode=reset_mode), x)
    left = {"subtract": lambda v: v - 1, "zero": lambda v: 0.0}[reset_mode]
    v = 0.5 * (left(1.2) - sigmoid(1.0)) + 2.0
    m = sigmoid(v / 2) + 1
    assert z.flatten().tolist() == [1, 1]
    assert state["m"].item() == pytest.approx(m) and state["v"].item() == pytest.approx(left(v) - sigmoid(m))


@pytest.mark.parametrize("reset_mode", ["subtract", "zero"])
def test_without_complementary_potential_it_is_a_lif(reset_mode):
    """The sigmoid of a potential far below zero is zero."""
    x = torch.randn(40, 2, 5, dtype=F64)
    start = {"v": torch.zeros(2, 5, dtype=F64), "m": torch.full((2, 5), -1e300, dtype=F64)}
    z, _ = ranvier.run(ranvier.ComplementaryLIF(tau=2.0, reset_mode=reset_mode), x, start)
    assert torch.equal(z, ranvier.LIF(tau=2.0, reset_mode=reset_mode)(2 * x)) and z.any()


def test_up_to_the_first_spike_it_is_a_lif():
    x = torch.rand(40, 2, 50, dtype=F64)
    z, lif = ranvier.ComplementaryLIF(tau=2.0)(x), ranvier.LIF(tau=2.0)(2 * x)
    assert torch.equal(z.argmax(0), lif.argmax(0)) and z.sum() < lif.sum()
