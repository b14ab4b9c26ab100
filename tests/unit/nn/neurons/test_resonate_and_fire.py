"""The balanced resonate-and-fire neuron against the paper's equations in complex numbers."""

import cmath
import math

import pytest
import torch
from torch import nn

import ranvier

F64 = torch.float64


def exactly(**values):
    """Parameters in float64: a plain number is kept in float32."""
    return {name: torch.tensor(value, dtype=F64) for name, value in values.items()}


def by_hand(inputs, discretisation, h, omega, b, gamma):
    """Spikes and last state; with tau = 1, h is the paper's delta."""
    s, q, spikes = 0j, 0.0, []
    for x in inputs:
        if discretisation == "euler":
            boundary = (math.sqrt(1 - (h * omega) ** 2) - 1) / h
            s = s + h * ((boundary - b - q + 1j * omega) * s + x)
        else:
            s = s * cmath.exp(h * (-b - q + 1j * omega)) + h * x
        z = float(s.real >= 1 + q)
        q = gamma * q + z
        spikes.append(z)
    return spikes, s, q


@pytest.mark.parametrize(("discretisation", "gamma"), [("euler", 0.9), ("exact", math.exp(-0.1))])
def test_it_is_the_paper_s_neuron_with_its_time_step(discretisation, gamma):
    x = 60 * torch.randn(300, dtype=F64)
    given = exactly(tau=1.0, omega=10.0, b=1.0, tau_refractory=0.1)
    layer = ranvier.ResonateAndFire(**given, dt=0.01, discretisation=discretisation)
    y, state = ranvier.run(layer, x.reshape(-1, 1, 1))
    spikes, s, q = by_hand(x.tolist(), discretisation, 0.01, 10.0, 1.0, gamma)
    assert y.flatten().tolist() == spikes and sum(spikes) > 5
    assert [state[k].item() for k in "vwq"] == pytest.approx([s.real, s.imag, q], rel=1e-9)


def test_it_answers_most_to_its_own_frequency():
    t = torch.arange(2000, dtype=F64).reshape(-1, 1, 1)
    frequencies = torch.linspace(0.5, 1.5, 21, dtype=F64)
    layer = ranvier.ResonateAndFire(threshold=100.0)
    _, _, recorded = ranvier.run(layer, torch.sin(0.1 * frequencies * t), record=("v",))
    amplitude = recorded["v"][1000:, 0].abs().amax(0)
    assert frequencies[amplitude.argmax()] == 1.0
    assert amplitude.max().item() == pytest.approx(1 / (2 * 0.1), rel=0.05)  # so 2 b threshold just fires it
    y = ranvier.ResonateAndFire()(0.5 * torch.sin(0.1 * frequencies * t)).sum(0).flatten()
    assert y[10] > 20 and not y[:5].any() and not y[-2:].any()


@pytest.mark.parametrize("discretisation", ["euler", "exact"])
def test_without_damping_it_turns_for_ever_and_never_grows(discretisation):
    start = {k: torch.full((1, 1), v, dtype=F64) for k, v in {"v": 0.5, "w": 0.0, "q": 0.0}.items()}
    layer = ranvier.ResonateAndFire(omega=5.0, b=0.0, discretisation=discretisation)
    _, state = ranvier.run(layer, torch.zeros(5000, 1, 1, dtype=F64), start)
    assert math.hypot(state["v"].item(), state["w"].item()) == pytest.approx(0.5, rel=1e-9)


def test_a_frequency_past_the_bound_counts_as_the_bound_and_can_come_back():
    x = torch.randn(20, 1, 1, dtype=F64)
    omega = nn.Parameter(torch.tensor(25.0, dtype=F64))
    _, state = ranvier.run(ranvier.ResonateAndFire(omega=omega), x)
    _, at_bound = ranvier.run(ranvier.ResonateAndFire(omega=9.9), x)
    assert torch.allclose(state["v"], at_bound["v"]) and state["v"].isfinite().all()
    assert torch.autograd.grad(state["v"].sum(), omega)[0].abs() > 0


def test_the_gradient_reaches_past_spikes():
    x = (torch.sin(0.1 * torch.arange(100, dtype=F64))).reshape(-1, 1, 1).requires_grad_()
    y, state = ranvier.run(ranvier.ResonateAndFire(detach_reset=True), x)
    (g,) = torch.autograd.grad(state["v"].sum(), x)
    assert y[20:].sum() > 1 and g[:20].abs().max() > 1e-3
