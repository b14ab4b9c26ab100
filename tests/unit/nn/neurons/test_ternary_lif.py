"""What is special about TernaryLIF; the rest is in tests/contract/test_neurons.py."""

import pytest
import torch

import ranvier

F64 = torch.float64


def sequence(*values):
    return torch.tensor(values, dtype=F64).reshape(-1, 1, 1)


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_outputs_states_and_gradients_are_those_of_the_equation(reset_mode, detach_reset, agrees):
    def equation(x, v, p, fire):
        v = (1 - 1 / p["tau"]) * v + x
        up, down = fire(v - p["threshold"]), fire(-p["threshold"] - v)
        z = up - down
        taken = p["threshold"] * z if reset_mode == "subtract" else v * (up + down)
        kept = p["threshold"] * z.detach() if reset_mode == "subtract" else v * (up + down).detach()
        return p["amplitude"] * z, v - (kept if detach_reset else taken)

    agrees(ranvier.TernaryLIF, equation, reset_mode=reset_mode, detach_reset=detach_reset)


@pytest.mark.parametrize(
    ("reset_mode", "spikes", "left"),
    [  # membranes before the reset: 0.4, 0.6, -0.6, 0.3, 0.4 and 0.4, 0.6, -0.55, 0.275, 0.3875
        ("zero", [0, 1, -1, 0, 0], 0.4),
        ("subtract", [0, 1, -1, 0, 0], 0.3875),
    ],
)
def test_the_membranes_worked_out_by_hand(reset_mode, spikes, left):
    neuron = ranvier.TernaryLIF(tau=2.0, threshold=0.5, reset_mode=reset_mode)
    z, state = ranvier.run(neuron, sequence(0.4, 0.4, -0.6, 0.3, 0.25))
    assert z.flatten().tolist() == spikes and state["v"].item() == pytest.approx(left)


@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_the_opposite_input_has_the_opposite_spikes(reset_mode):
    x = torch.randn(30, 2, 9)
    neuron = ranvier.TernaryLIF(reset_mode=reset_mode)
    assert torch.equal(neuron(-x), -neuron(x)) and set(neuron(x).unique().tolist()) == {-1.0, 0.0, 1.0}


def test_on_positive_input_with_reset_to_zero_it_is_a_lif():
    x = torch.rand(50, 2, 9, dtype=F64)
    assert torch.equal(ranvier.TernaryLIF(tau=2.0)(x), ranvier.LIF(tau=2.0, threshold=0.5)(2 * x))


def test_the_papers_gradient_is_one_between_minus_one_and_one():
    x = torch.tensor([[[-1.2, -0.9, -0.1, 0.1, 0.9, 1.2]]], dtype=F64, requires_grad=True)
    ranvier.TernaryLIF(surrogate=ranvier.Rectangle(width=1.0))(x).sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 1, 1, 0]


def test_an_amplitude_folds_into_the_weights_that_follow():
    x, layer = torch.randn(20, 2, 5, dtype=F64), torch.nn.Linear(5, 3, bias=False, dtype=F64)
    graded = layer(ranvier.TernaryLIF(amplitude=0.75)(x))
    layer.weight.data *= 0.75
    assert torch.allclose(graded, layer(ranvier.TernaryLIF()(x)), rtol=1e-12)
