"""The probabilistic meta-neuron against the equations of its card."""

import pytest
import torch

import ranvier
from ranvier.core.random import Draws

F64 = torch.float64
P = {"a": 0.3, "b": 0.4, "c": -0.2, "d": 0.25, "beta": 4.0, "threshold": 0.8}


@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_steps_by_hand(backend):
    """With tau = 1 in the unit of dt, h is the card's time step."""
    x = 1.5 * torch.randn(60, 2, 3, dtype=F64)
    seed, step = torch.tensor([5, 6]), torch.tensor([0, 3])
    start = {"v": torch.zeros(2, 3, dtype=F64), "u": torch.zeros(2, 3, dtype=F64), "seed": seed, "step": step}
    with ranvier.backend(backend):
        y, state = ranvier.run(ranvier.ProbabilisticMeta(tau=1.0, dt=0.1, **P), x, start)
    draws, v, u = Draws(seed, step, (3,)), start["v"], start["u"]
    for x_t, y_t in zip(x, y, strict=True):
        v = v + 0.1 * (v**2 - v - u + x_t)
        u = u + 0.1 * P["a"] * (P["b"] * v - u)
        s = draws.uniform() < torch.sigmoid(P["beta"] * (v - P["threshold"]))
        draws.next_step()
        v, u = torch.where(s, P["c"], v), torch.where(s, u + P["d"], u)
        assert torch.equal(y_t, s.to(F64))
    assert torch.allclose(state["v"], v) and torch.allclose(state["u"], u) and 3 < y.sum() < 300


def test_the_rate_is_the_probability():
    x = torch.tensor([-1.0, 2.0, 5.0]).repeat_interleave(20_000).reshape(1, 1, -1)
    rate = ranvier.ProbabilisticMeta()(x).reshape(3, -1).mean(1)
    p = torch.sigmoid(5 * (torch.tensor([-1.0, 2.0, 5.0]) / 5 - 1))
    assert ((rate - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()


def test_every_intrinsic_parameter_learns():
    names = ranvier.ProbabilisticMeta.declared
    layer = ranvier.ProbabilisticMeta(
        **{k: torch.nn.Parameter(torch.tensor(d.default, dtype=F64)) for k, d in names.items()}
    )
    layer(1 + torch.randn(40, 2, 3, dtype=F64)).sum().backward()
    assert all(p.grad != 0 for p in layer.parameters()) and len(list(layer.parameters())) == 7


def test_recovery_tires_it():
    y = ranvier.ProbabilisticMeta(d=0.5)(torch.full((200, 1, 2000), 2.0))
    assert y[:40].mean() > 1.5 * y[100:].mean() > 0
