"""The sigma-delta neuron: what is sent adds up to the activation."""

import pytest
import torch
from torch import nn

import ranvier

F64 = torch.float64


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.7])
def test_the_sum_of_what_is_sent_is_within_the_threshold_of_the_activation(threshold, backend):
    x = 0.3 * torch.randn(400, 2, 5, dtype=F64)
    with ranvier.backend(backend):
        y, state = ranvier.run(ranvier.SigmaDelta(threshold=threshold, bias=0.25), x)
    error = (y.cumsum(0) - (x.cumsum(0) + 0.25).relu()).abs()
    assert error.max() < max(threshold, 1e-12)
    assert torch.allclose(state["sent"], y.sum(0)) and torch.allclose(state["sigma"], x.sum(0))
    assert ((y == 0) | (y.abs() >= threshold)).all()


def test_small_changes_are_kept_until_they_are_worth_sending():
    x = torch.tensor([0.25, 0.25, 0.25, 0.25, -0.25]).reshape(5, 1, 1)
    assert ranvier.SigmaDelta(threshold=0.5)(x).flatten().tolist() == [0.0, 0.5, 0.0, 0.5, 0.0]


def test_what_does_not_change_is_not_sent():
    x = torch.zeros(50, 1, 4)
    x[0] = torch.rand(1, 4)
    assert not ranvier.SigmaDelta(threshold=0.0)(x)[1:].any()


def test_a_network_of_them_computes_what_the_network_of_rectifiers_does():
    """Each layer adds up the changes that it gets, so with threshold 0 the frames' activations come out."""
    one, two = nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)
    network = nn.Sequential(one, ranvier.SigmaDelta(threshold=0.0), two, ranvier.SigmaDelta(threshold=0.0)).double()
    frames = torch.randn(30, 2, 6, dtype=F64)
    changes = torch.cat([frames[:1], frames.diff(dim=0)])
    assert torch.allclose(network(changes).cumsum(0), two(one(frames).relu()).relu())


def test_the_surrogate_lets_the_threshold_learn():
    threshold = nn.Parameter(torch.tensor(0.5, dtype=F64))
    x = torch.tensor([0.4], dtype=F64).reshape(1, 1, 1)
    ranvier.SigmaDelta(threshold=threshold)(x).sum().backward()
    slope = ranvier.Arctan().derivative(torch.tensor(-0.1, dtype=F64))
    assert threshold.grad.item() == pytest.approx(-0.4 * slope.item())
