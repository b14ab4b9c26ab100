"""What is special about KBasedLIF; the rest is in tests/contract/test_neurons.py."""

import pytest
import torch

import ranvier

F64 = torch.float64


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_outputs_states_and_gradients_are_those_of_the_equation(reset_mode, detach_reset, agrees):
    def equation(x, v, p, fire):
        v = torch.relu(p["k"] * (v + (x - v) / p["tau"]))
        z = fire(v - p["threshold"])
        s = z.detach() if detach_reset else z
        return z, v - s * (p["threshold"] if reset_mode == "subtract" else v)

    agrees(ranvier.KBasedLIF, equation, reset_mode=reset_mode, detach_reset=detach_reset)


@pytest.mark.parametrize("reset_mode", ["subtract", "zero"])
def test_with_k_one_and_positive_input_it_is_a_lif(reset_mode):
    x = 3 * torch.rand(40, 2, 5, dtype=F64)
    z = ranvier.KBasedLIF(k=1.0, reset_mode=reset_mode)(x)
    assert torch.equal(z, ranvier.LIF(reset_mode=reset_mode)(x)) and z.any()


@pytest.mark.parametrize(("reset_mode", "left"), [("zero", 0.3), ("subtract", 0.3 + 1.5 * 0.5 * 0.35)])
def test_the_membranes_worked_out_by_hand(reset_mode, left):
    """1.5 (0.5 v + 0.5 x): 0.6, then 1.35, which fires, then what is left."""
    neuron = ranvier.KBasedLIF(k=1.5, tau=2.0, reset_mode=reset_mode)
    z, state = ranvier.run(neuron, torch.tensor([0.8, 1.2, 0.4], dtype=F64).reshape(3, 1, 1))
    assert z.flatten().tolist() == [0, 1, 0] and state["v"].item() == pytest.approx(left)


def test_inhibition_is_forgotten():
    x = torch.tensor([-100.0, 2.0], dtype=F64).reshape(2, 1, 1)
    assert ranvier.KBasedLIF(tau=2.0)(x).flatten().tolist() == [0, 1]


def test_k_scales_the_slope_of_the_surrogate():
    x = torch.tensor([[[0.7]]], dtype=F64, requires_grad=True)
    ranvier.KBasedLIF(k=3.0, tau=1.0)(x).backward()
    assert x.grad.item() == pytest.approx(3 * ranvier.Arctan().derivative(torch.tensor(3 * 0.7 - 1.0)).item())
