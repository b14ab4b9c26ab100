"""The neuron of the CUBA network against its differential equation, integrated by hand."""

import math

import pytest
import torch

import ranvier
from ranvier.nn.neurons.ei_current_lif import EICurrentLIF

F64 = torch.float64


def exactly(**values):
    """Parameters in float64: a plain number is kept in float32."""
    return {name: torch.tensor(value, dtype=F64) for name, value in values.items()}


def by_hand(inputs, start, tau_e, tau_i, dt, exact, refractory=3, rest=-60.0, reset=-58.0, threshold=-50.0, tau=20.0):
    """Spikes and last state; under "exact" the closed solution of the two equations over a step."""
    v, e, i, held, spikes = *start, 0, []
    for x in inputs:
        e, i = e + max(x, 0.0), i + min(x, 0.0)
        a, b, c = (math.exp(-dt / s) if exact else 1 - dt / s for s in (tau, tau_e, tau_i))
        if exact:
            moved = sum(g * s / (s - tau) * (math.exp(-dt / s) - a) for g, s in ((e, tau_e), (i, tau_i)))
        else:
            moved = (1 - a) * (e + i)
        if held > 0:
            v, held = reset, held - 1
        else:
            v = rest + a * (v - rest) + moved
        e, i = b * e, c * i
        spikes.append(float(v >= threshold))
        if spikes[-1]:
            v, held = reset, refractory
    return spikes, [v, e, i, float(held)]


@pytest.mark.parametrize("discretisation", ["euler", "exact"])
def test_it_is_the_equation(discretisation):
    x = 4 + 8 * torch.randn(300, dtype=F64)
    given = {"tau": 20.0, "tau_e": 5.0, "tau_i": 10.0, "refractory": 1.5, "v_reset": -58.0}
    layer = EICurrentLIF(
        **{k: torch.tensor(v, dtype=F64) for k, v in given.items()}, dt=0.5, discretisation=discretisation
    )
    start = {k: torch.full((1, 1), v, dtype=F64) for k, v in zip(layer.states, (-55.0, 4.0, -2.0, 0.0), strict=True)}
    y, state = ranvier.run(layer, x.reshape(-1, 1, 1), start)
    spikes, last = by_hand(x.tolist(), (-55.0, 4.0, -2.0), 5.0, 10.0, 0.5, discretisation == "exact")
    assert y.flatten().tolist() == spikes and 5 < sum(spikes) < 60
    assert [state[k].item() for k in layer.states] == pytest.approx(last, rel=1e-9)


@pytest.mark.parametrize("tau_e", [20.0, 20.0 + 1e-9, 19.999, 2.0, 300.0])
def test_the_exact_step_does_not_depend_on_dt_nor_on_constants_being_different(tau_e):
    """Between spikes one step of 2 is twenty of 0.1, and of any size what Euler's rule tends to."""
    found = []
    for dt, discretisation in ((2.0, "exact"), (0.1, "exact"), (1e-3, "euler")):
        layer = EICurrentLIF(
            **exactly(tau=20.0, tau_e=tau_e, tau_i=10.0, threshold=0.0), dt=dt, discretisation=discretisation
        )
        start = {
            k: torch.full((1, 1), v, dtype=F64) for k, v in zip(layer.states, (-60.0, 9.0, -3.0, 0.0), strict=True)
        }
        found.append(ranvier.run(layer, torch.zeros(round(2 / dt), 1, 1, dtype=F64), start)[1]["v"].item())
    assert found[0] == pytest.approx(found[1], rel=1e-8) and found[0] == pytest.approx(found[2], abs=2e-4)
