"""A unit of spiking populations is its equations; with neurons that pass their input on it is the Legendre memory unit."""

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.core.declarations import State
from ranvier.models.legendre import l2mu
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.units.late_reset import Leaky, Synaptic
from ranvier.nn.units.legendre_memory import legendre_matrices
from ranvier.nn.units.spiking_legendre_memory import SpikingLegendreMemory, leaky, synaptic

SIZES = {"memories": 3, "order": 4, "window": 7.0}


class PassThrough(Neuron):
    """What comes in goes out."""

    last = State()
    spiking = False

    def step(self, x, last):
        return x, x


def spikes(steps=12, batch=2, features=5):
    return (torch.rand(steps, batch, features, generator=torch.Generator().manual_seed(0)) < 0.4).float()


def made(neuron=lambda: leaky(0.8, 0.3)):
    torch.manual_seed(0)
    return SpikingLegendreMemory(5, 6, neuron=neuron, **SIZES)


def restated(unit, x, populations):
    """The published step; `populations` maps "u", "m" and "h" to functions of the current that keep their own state."""
    w = {k: p.detach() for k, p in unit.named_parameters() if "weight" in k}
    (ex, wx), (eh, wh) = (w[f"from_{k}.weight"].split([3, 6]) for k in ("input", "hidden"))
    em, wm = w["encode_memory.weight"], w["from_memory.weight"]
    transition, entry = (v.float() for v in legendre_matrices(4, 7.0))
    m, h, courses = torch.zeros(x.shape[1], 3, 4), torch.zeros(x.shape[1], 6), {"u": [], "m": [], "h": []}
    for x_t in x:
        u = populations["u"](x_t @ ex.T + h @ eh.T + m.flatten(1) @ em.T)
        m = populations["m"](torch.einsum("ij,bnj->bni", transition, m) + torch.einsum("bn,i->bni", u, entry))
        h = populations["h"](x_t @ wx.T + h @ wh.T + m.flatten(1) @ wm.T)
        for k, v in zip("umh", (u, m, h), strict=True):
            courses[k].append(v)
    return {k: torch.stack(v) for k, v in courses.items()}


def snntorchs(b, threshold, a=None):
    """snnTorch's Leaky and Synaptic by their source: the reset is decided before the step, and comes with it."""
    state = {}

    def population(current):
        v = state.get("v", torch.zeros_like(current))
        reset = (v > threshold).float()
        if a is not None:
            state["i"] = current = a * state.get("i", torch.zeros_like(current)) + current
        state["v"] = b * v + current - reset * threshold
        return (state["v"] > threshold).float()

    return population


def test_with_neurons_that_pass_on_it_is_the_legendre_memory_unit():
    unit, x = made(PassThrough), torch.randn(12, 2, 5)
    y, _, recorded = ranvier.run(unit, x, record=("u", "m", "h"))
    expected = restated(unit, x, {k: lambda current: current for k in "umh"})
    for name, course in expected.items():
        assert torch.allclose(recorded[name], course, rtol=1e-5, atol=1e-6)
    assert torch.equal(y, recorded["h"])


@pytest.mark.parametrize("kind", ["leaky", "synaptic"])
def test_spiking_it_is_the_published_step_with_snntorchs_neurons(kind):
    neuron = (lambda: leaky(0.8, 0.3)) if kind == "leaky" else (lambda: synaptic(0.5, 0.8, 0.3))
    unit, x = made(neuron), spikes()
    _, _, recorded = ranvier.run(unit, x, record=("u", "m", "h"))
    theirs = {k: snntorchs(0.8, 0.3, None if kind == "leaky" else 0.5) for k in "umh"}
    for name, course in restated(unit, x, theirs).items():
        assert torch.equal(recorded[name], course) and course.any()


def test_all_signals_between_populations_are_spikes():
    net = l2mu(6, 4, widths=(8, 8), memories=5, hidden=12, neuron=lambda: leaky(0.9, 0.2))
    _, _, recorded = ranvier.run(net, 3 * torch.randn(30, 4, 6), record=("u", "m", "h", "spikes"))
    assert len(recorded) == 3 + 2 + 1
    for course in recorded.values():
        assert ((course == 0) | (course == 1)).all() and course.any()


@pytest.mark.parametrize("neuron", [leaky, synaptic])
@pytest.mark.parametrize("sizes", [[12], [5, 7], [1] * 12, [0, 12]])
def test_step_by_step_it_gives_the_same_spikes(neuron, sizes):
    unit, x = made(neuron), spikes()
    whole, expected = ranvier.run(unit, x)
    state, parts = None, []
    for chunk in x.split(sizes):
        y, state = ranvier.run(unit, chunk, state)
        parts.append(y)
    assert torch.equal(torch.cat(parts), whole)
    assert all(torch.equal(state[k], v) for k, v in expected.items())


def test_a_step_is_exported_with_its_state_as_inputs_and_outputs():
    unit, x = made(), spikes()

    class Step(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit = unit

        def forward(self, x, state):
            return self.unit.advance(x, state)

    state = unit.rest(x[:1])
    program = torch.export.export(Step(), (x[:1], state)).module()
    outputs = []
    for x_t in x.split(1):
        y, state = program(x_t, state)
        outputs.append(y)
    assert torch.equal(torch.cat(outputs), unit(x))


def test_everything_that_is_learnt_gets_a_gradient_and_the_matrices_stay():
    net = l2mu(6, 4, widths=(8,), memories=5, hidden=12, neuron=lambda: leaky(0.9, 0.2))
    before = {k: v.clone() for k, v in net.named_buffers() if "transition" in k or "entry" in k}
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    net(3 * torch.randn(30, 4, 6)).square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.any(), name
    optimiser.step()
    assert len(before) == 2 and all(torch.equal(v, net.get_buffer(k)) for k, v in before.items())


def test_thresholds_stay_above_their_bound():
    unit = made()
    with torch.no_grad():
        for population in (unit.u, unit.m, unit.h):
            population.threshold.fill_(-1.0)
    low, y = made(lambda: leaky(0.8, 0.05)), unit(torch.zeros(9, 2, 5))
    assert not y.any() and torch.equal(unit(spikes()), low(spikes()))


def test_other_matrices_take_the_place_of_legendres():
    matrices = torch.eye(4) * 0.5, torch.ones(4)
    unit = SpikingLegendreMemory(5, 6, matrices=matrices, **SIZES)
    assert torch.equal(unit.transition, matrices[0]) and torch.equal(unit.entry, matrices[1])
    with pytest.raises(Refusal, match=r"matrices: expected A \[4, 4\] and B \[4\]; got \(3, 3\)"):
        SpikingLegendreMemory(5, 6, matrices=(torch.eye(3), torch.ones(4)), **SIZES)


@pytest.mark.parametrize("bad", [torch.zeros(3, 5), torch.zeros(3, 2, 4), torch.zeros(3, 2, 5).long()])
def test_what_it_can_not_take_is_refused(bad):
    with pytest.raises(Refusal, match=r"SpikingLegendreMemory: expected floating-point \[T, B, 5\], time first"):
        made()(bad)
    with pytest.raises(Refusal, match=r"neuron: expected neurons that draw no random numbers; got StochasticLIF"):
        made(ranvier.StochasticLIF)


def test_16_bits_keep_their_dtype_and_full_size_state():
    y, state = ranvier.run(made(), spikes().bfloat16())
    assert y.dtype == torch.bfloat16 and all(v.dtype == torch.float32 for v in state.values())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(made()(spikes()), y.float())


@pytest.mark.parametrize("make", [lambda: Leaky(b=0.7, threshold=0.9), lambda: Synaptic(a=0.3, b=0.7, threshold=0.9)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 3, 5), (6, 2, 3, 4), (0, 2, 3)])
def test_the_kernels_of_neurons_with_a_late_reset_are_their_step(make, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).mul(2)
    found = []
    for backend in ("fused", "reference"):
        neuron = make()
        for name in list(neuron.declared):
            value = neuron._buffers.pop(name)
            neuron.register_parameter(name, nn.Parameter(value))
        u = x.clone().requires_grad_()
        with ranvier.backend(backend):
            y, state = ranvier.run(neuron, u)
        loss = (y * torch.arange(y.numel()).reshape(y.shape)).sum() + sum(v.sum() for v in state.values())
        leaves = [u, *neuron.parameters()] if len(x) else []
        found.append([y, *state.values(), *(torch.autograd.grad(loss, leaves) if leaves else ())])
    for fused, plain in zip(*found, strict=True):
        assert torch.allclose(fused, plain, rtol=1e-4, atol=1e-5)
