"""What is special about IntegerLIF; the rest is in tests/contract/test_neurons.py."""

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal

F64 = torch.float64


@pytest.mark.parametrize("detach_reset", [False, True])
def test_outputs_states_and_gradients_are_those_of_the_equation(detach_reset, agrees):
    def equation(x, v, p, fire):
        v = (1 - 1 / p["tau"]) * v + x
        u = v / p["threshold"]
        inside = ((u >= 0) & (u <= 3)).to(u)
        n = u.detach().clamp(0, 3).round() + inside * (u - u.detach())
        return n, v - p["threshold"] * (n.detach() if detach_reset else n)

    agrees(ranvier.IntegerLIF, equation, levels=3, detach_reset=detach_reset)


def test_the_integers_worked_out_by_hand():
    """Membranes 2.6, 0.8, 8.95 and 0.2375, with a decay of 1/4."""
    n, state = ranvier.run(ranvier.IntegerLIF(), torch.tensor([2.6, 0.9, 9.0, -1.0], dtype=F64).reshape(4, 1, 1))
    assert n.flatten().tolist() == [3, 1, 4, 0] and state["v"].item() == pytest.approx(0.2375)


def test_a_threshold_is_the_step_of_a_uniform_quantiser():
    x = 3 * torch.rand(1, 1, 1000, dtype=F64)
    n = ranvier.IntegerLIF(threshold=0.5, levels=3)(x)
    assert torch.equal(n, (x / 0.5).round().clamp(0, 3)) and set(n.unique().tolist()) == {0, 1, 2, 3}


def test_the_gradient_is_one_within_the_range_and_zero_outside():
    x = torch.tensor([[[-0.1, 0.0, 0.2, 3.9, 4.0, 4.1]]], dtype=F64, requires_grad=True)
    ranvier.IntegerLIF(levels=4)(x).sum().backward()
    assert x.grad.flatten().tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("levels", [1, 3, 4])
def test_an_integer_is_the_sum_of_its_virtual_spikes(levels):
    neuron = ranvier.IntegerLIF(levels=levels)
    n = neuron(1 + 2 * torch.randn(6, 2, 3, 5))
    z = neuron.virtual_spikes(n)
    assert z.shape == (6 * levels, 2, 3, 5) and set(z.unique().tolist()) == {0, 1}
    assert torch.equal(z.unflatten(0, (6, levels)).sum(1), n) and n.max() == levels


def test_a_layer_adds_up_over_virtual_steps_what_it_makes_of_the_integers():
    neuron, layer = ranvier.IntegerLIF(), torch.nn.Conv2d(3, 4, 3, bias=False, dtype=F64)
    n = neuron(1 + 2 * torch.randn(5, 2, 3, 8, 8, dtype=F64))
    virtual = ranvier.Fold(layer)(neuron.virtual_spikes(n)).unflatten(0, (5, 4)).sum(1)
    assert torch.allclose(virtual, ranvier.Fold(layer)(n), rtol=1e-12)


def test_training_and_evaluation_have_the_same_integers():
    neuron, x = ranvier.IntegerLIF(), torch.randn(6, 2, 3)
    assert torch.equal(neuron.train()(x), neuron.eval()(x))


@pytest.mark.parametrize("levels", [0, -1, 2.5])
def test_levels_that_are_no_number_of_spikes_are_refused(levels):
    with pytest.raises(Refusal, match=r"IntegerLIF\.levels: expected a whole number of at least 1"):
        ranvier.IntegerLIF(levels=levels)
