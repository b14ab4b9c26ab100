"""The adaptive exponential neuron against the paper's equations in volts and amperes."""

import math

import torch

import ranvier

F64 = torch.float64


def exactly(**values):
    """Parameters in float64: a plain number is kept in float32."""
    return {name: torch.tensor(value, dtype=F64) for name, value in values.items()}


def in_physical_units(current, steps):
    """Spike times [ms] by Euler steps of 1 ms with the constants of Brette and Gerstner 2005; mV, pA, nS, pF."""
    capacity, leak, rest, onset, slope, a, b, tau_w = 281.0, 30.0, -70.6, -50.4, 2.0, 4.0, 80.5, 144.0
    peak = rest + 1.3 * (onset - rest)
    v, w, spikes = rest, 0.0, []
    for t in range(steps):
        dv = (-leak * (v - rest) + leak * slope * math.exp((v - onset) / slope) - w + current) / capacity
        dw = (a * (v - rest) - w) / tau_w
        v, w = v + dv, w + dw
        if v >= peak:
            v, w = rest, w + b
            spikes.append(t)
    return spikes, v, w


def test_it_is_the_paper_s_neuron_in_units_of_the_way_from_rest_to_the_rheobase_threshold():
    unit = -50.4 + 70.6
    given = exactly(tau=281 / 30, sharpness=2 / unit, a=4 / 30, b=80.5 / (30 * unit), threshold=1.3)
    layer = ranvier.AdEx(**given)
    y, state = ranvier.run(layer, torch.full((400, 1, 1), 1000 / (30 * unit), dtype=F64))
    spikes, v, w = in_physical_units(1000.0, 400)
    assert y.flatten().nonzero().flatten().tolist() == spikes and len(spikes) > 10
    assert math.isclose(state["v"].item() * unit - 70.6, v, rel_tol=1e-9)
    assert math.isclose(state["w"].item() * 30 * unit, w, rel_tol=1e-9)
    for name in given:  # the defaults are these, rounded
        assert math.isclose(getattr(layer, name), getattr(ranvier.AdEx(), name), rel_tol=0.03)


def test_intervals_lengthen_until_they_settle():
    intervals = ranvier.AdEx()(torch.full((2000, 1, 1), 1.8)).flatten().nonzero().flatten().diff()
    assert (intervals.diff()[:8] >= 0).all() and intervals[20] > 2 * intervals[0]
    assert intervals[-10:].max() - intervals[-10:].min() <= 1


def test_without_adaptation_it_is_the_exponential_neuron():
    x = 2 + torch.randn(100, 2, 5)
    assert torch.equal(ranvier.AdEx(tau=10.0, a=0.0, b=0.0)(x), ranvier.ExponentialIF(tau=10.0)(x))


def test_a_detached_reset_lets_no_gradient_through_the_jump_of_the_adaptation():
    for detach, passes in ((False, True), (True, False)):
        x = torch.tensor([20.0], dtype=F64).reshape(1, 1, 1).requires_grad_()
        _, state = ranvier.run(ranvier.AdEx(detach_reset=detach), x)
        assert state["w"].item() == ranvier.AdEx().b.item()  # it fired
        (g,) = torch.autograd.grad(state["w"].sum(), x, allow_unused=True, materialize_grads=True)
        assert bool(g.any()) is passes
