"""One step in place is one step of the neuron, for every neuron that draws no random numbers."""

import numpy as np
import pytest
import torch

import ranvier
from ranvier.compile.advance import advance
from ranvier.core.discovery import discover
from ranvier.nn.neurons.neuron import Neuron

NEURONS = [found.load() for found in discover("ranvier.nn.neurons", base="neuron").values()]
CERTAIN = [kind for kind in NEURONS if issubclass(kind, Neuron) and not kind.random]


@pytest.mark.parametrize("size", [1, 16, 37])
@pytest.mark.parametrize("kind", CERTAIN, ids=lambda kind: kind.__name__)
def test_the_step_is_the_neurons(kind: type[Neuron], size: int) -> None:
    torch.manual_seed(0)
    neuron, x = kind(), 2 * torch.randn(50, 1, size)
    values = {k: v.detach().numpy() for k, v in zip(neuron.declared, neuron._values(), strict=True)}
    step = advance(neuron._program(()), values, [s.rest for s in neuron.states.values()], size)
    with ranvier.backend("reference"):
        y, state = ranvier.run(neuron, x)
    for x_t, y_t in zip(x[:, 0].numpy(), y[:, 0].detach().numpy(), strict=True):
        step.x[:] = x_t
        assert (step() == np.flatnonzero(step.y)).all()
        np.testing.assert_allclose(step.y, y_t, atol=1e-5)
    for name, value in step.states.items():
        np.testing.assert_allclose(value, state[name][0].detach().numpy(), rtol=1e-4, atol=1e-4)


def test_a_parameter_of_each_neuron_and_its_decay() -> None:
    tau = torch.linspace(1.5, 9.0, 21)
    neuron = ranvier.LIF(tau=tau, discretisation="exact", reset_mode="subtract")
    x = torch.rand(30, 1, 21) * 3
    values = {k: v.numpy() for k, v in zip(neuron.declared, neuron._values(), strict=True)}
    step = advance(neuron._program(()), values, [0.0], 21)
    expected = neuron(x)[:, 0].numpy()
    for x_t, y_t in zip(x[:, 0].numpy(), expected, strict=True):
        step.x[:] = x_t
        step()
        np.testing.assert_array_equal(step.y, y_t)
