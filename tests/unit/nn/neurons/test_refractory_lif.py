"""Brunel's neuron against his equation, and the closed formula of its rate."""

import math

import pytest
import torch

import ranvier
from ranvier.nn.neurons.refractory_lif import RefractoryLIF

F64 = torch.float64


@pytest.mark.parametrize("discretisation", ["euler", "exact"])
def test_it_is_the_equation(discretisation):
    x = 30 + 30 * torch.randn(300, dtype=F64)
    layer = RefractoryLIF(
        tau=torch.tensor(20.0, dtype=F64),
        refractory=2.0,
        v_reset=10.0,
        threshold=20.0,
        dt=0.5,
        discretisation=discretisation,
    )
    y, state = ranvier.run(layer, x.reshape(-1, 1, 1))
    a = math.exp(-0.5 / 20) if discretisation == "exact" else 1 - 0.5 / 20
    v, held, spikes = 0.0, 0, []
    for value in x.tolist():
        if held > 0:
            v, held = 10.0, held - 1
        else:
            v = a * v + (1 - a) * value
        spikes.append(float(v >= 20))
        if spikes[-1]:
            v, held = 10.0, 4
    assert y.flatten().tolist() == spikes and sum(spikes) > 5
    assert [state[k].item() for k in ("v", "r")] == pytest.approx([v, held], rel=1e-9)


def test_what_comes_while_it_is_held_is_lost():
    state = {"v": torch.full((1, 1), 100.0), "r": torch.full((1, 1), 2.0)}
    y, after = ranvier.run(RefractoryLIF(v_reset=10.0, threshold=20.0), torch.full((1, 1, 1), 500.0), state)
    assert y.item() == 0 and after["v"].item() == 10 and after["r"].item() == 1


def test_its_rate_under_a_constant_current_is_the_closed_formula():
    """1 / rate = refractory + tau ln((x - reset) / (x - threshold))."""
    for x in (21.0, 30.0, 80.0):
        y = RefractoryLIF(tau=20.0, refractory=2.0, v_reset=10.0, threshold=20.0, dt=0.01, discretisation="exact")(
            torch.full((50_000, 1, 1), x, dtype=F64)
        )
        between = y.flatten().nonzero().flatten().diff().double()[1:] * 0.01
        assert between.mean().item() == pytest.approx(2 + 20 * math.log((x - 10) / (x - 20)), abs=0.02)
