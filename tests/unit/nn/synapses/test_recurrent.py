"""When a recurrent layer is one kernel and when it is a loop, and that either way it computes the same."""

import warnings

import pytest
import torch
from torch import nn

import ranvier
from ranvier.nn.synapses import recurrent
from ranvier.nn.synapses.recurrent import Recurrent


class Calls(nn.Linear):
    """A synapse with a forward of its own."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


@pytest.fixture
def kernels(monkeypatch):
    """How often the kernels have been asked for."""
    calls, scan = [], recurrent.recurrent_scan

    def counted(*args):
        calls.append(args)
        return scan(*args)

    monkeypatch.setattr(recurrent, "recurrent_scan", counted)
    recurrent._say_once.cache_clear()
    return calls


def agrees(layer, x):
    with ranvier.backend("reference"):
        assert torch.allclose(layer(x), expected := layer(x)) and expected.any()
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("synapse", [nn.Linear(4, 4), ranvier.Linear(4, 4, bias=False)])
def test_linear_synapses_are_fused_without_a_word(synapse, kernels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agrees(Recurrent(ranvier.LIF(), synapse), 3 * torch.randn(6, 2, 4))
        weighted = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        agrees(Recurrent(ranvier.LIF(), weighted), 3 * torch.randn(6, 2, 4))
    assert len(kernels) == 2


@pytest.mark.parametrize(
    ("synapse", "features"),
    [(Calls(4, 4), (4,)), (ranvier.Conv2d(2, 2, 3, padding=1), (2, 4, 4)), (nn.Identity(), (4,))],
)
def test_any_other_synapse_is_a_loop_which_is_said_once_by_name(synapse, features, kernels):
    layer, x = Recurrent(ranvier.LIF(), synapse), 3 * torch.randn(6, 2, *features)
    with pytest.warns(UserWarning, match=rf"Recurrent: a {type(synapse).__name__} synapse is not fused"):
        layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agrees(layer, x)
    assert not kernels


def test_hooks_on_the_synapse_see_every_step(kernels):
    layer, x, seen = Recurrent(ranvier.LIF(), nn.Linear(4, 4)), torch.randn(6, 2, 4), []
    handle = layer.synapse.register_forward_hook(lambda module, inputs, output: seen.append(output))
    y = layer(x)
    assert len(seen) == 6 and not kernels
    handle.remove()
    assert torch.equal(layer(x), y) and len(kernels) == 1 and len(seen) == 6


def test_no_grad_gives_the_same_and_keeps_nothing(kernels):
    layer, x = Recurrent(ranvier.AdaptiveLIF(), nn.Linear(4, 4)), 3 * torch.randn(6, 2, 4)
    y, state = ranvier.run(layer, x)
    with torch.no_grad():
        other, end = ranvier.run(layer, x)
    assert torch.equal(y, other) and all(torch.equal(end[k], state[k]) for k in state)
    assert y.requires_grad and not other.requires_grad
