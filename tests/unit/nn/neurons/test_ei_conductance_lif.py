"""The neuron of the COBA network against its differential equation, integrated by hand."""

import math

import pytest
import torch

import ranvier
from ranvier.nn.neurons.ei_conductance_lif import EIConductanceLIF

F64 = torch.float64


def exactly(**values):
    """Parameters in float64: a plain number is kept in float32."""
    return {name: torch.tensor(value, dtype=F64) for name, value in values.items()}


def by_hand(inputs, start, dt, exact, refractory=3, reset=-58.0):
    v, e, i, held, spikes = *start, 0, []
    for x in inputs:
        e, i = e + max(x, 0.0), i + max(-x, 0.0)
        total, drive = 1 + e + i, -60.0 + 0.0 * e - 80.0 * i
        if held > 0:
            v, held = reset, held - 1
        elif exact:
            v = drive / total + math.exp(-dt / 20.0 * total) * (v - drive / total)
        else:
            v = v + dt / 20.0 * (-60.0 - v + e * (0.0 - v) + i * (-80.0 - v))
        e, i = (g * (math.exp(-dt / s) if exact else 1 - dt / s) for g, s in ((e, 5.0), (i, 10.0)))
        spikes.append(float(v >= -50.0))
        if spikes[-1]:
            v, held = reset, refractory
    return spikes, [v, e, i, float(held)]


@pytest.mark.parametrize("discretisation", ["euler", "exact"])
def test_it_is_the_equation(discretisation):
    x = 0.1 + 0.2 * torch.randn(300, dtype=F64)
    given = {"tau": 20.0, "tau_e": 5.0, "tau_i": 10.0, "refractory": 1.5, "v_reset": -58.0}
    layer = EIConductanceLIF(**exactly(**given), dt=0.5, discretisation=discretisation)
    start = {k: torch.full((1, 1), v, dtype=F64) for k, v in zip(layer.states, (-55.0, 0.5, 0.2, 0.0), strict=True)}
    y, state = ranvier.run(layer, x.reshape(-1, 1, 1), start)
    spikes, last = by_hand(x.tolist(), (-55.0, 0.5, 0.2), 0.5, discretisation == "exact")
    assert y.flatten().tolist() == spikes and 5 < sum(spikes) < 60
    assert [state[k].item() for k in layer.states] == pytest.approx(last, rel=1e-9)


def test_exponential_euler_is_exact_where_conductances_are_constant_and_euler_diverges():
    """dt of 5 time constants of the membrane under load: the exact rule still lands on the solution."""
    start = {
        k: torch.full((1, 1), v, dtype=F64)
        for k, v in zip(("v", "g_e", "g_i", "r"), (-60.0, 1.0, 3.0, 0.0), strict=True)
    }
    constant = {**exactly(tau=20.0, tau_e=1e12, tau_i=1e12, threshold=1e9), "dt": 20.0}
    for steps in (1, 10):
        x = torch.zeros(steps, 1, 1, dtype=F64)
        v = ranvier.run(EIConductanceLIF(**constant, discretisation="exact"), x, start)[1]["v"].item()
        mean = (-60.0 - 3 * 80.0) / 5
        assert v == pytest.approx(mean + math.exp(-5.0 * steps) * (-60.0 - mean), abs=1e-9)
    far = {**start, "v": torch.full((1, 1), -61.0, dtype=F64)}
    euler = ranvier.run(EIConductanceLIF(**constant), torch.zeros(10, 1, 1, dtype=F64), far)[1]["v"].item()
    assert abs(euler) > 1e6
