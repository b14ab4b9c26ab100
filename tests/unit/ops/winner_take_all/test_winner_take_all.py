"""A circuit of competing neurons: the kernel against the reference."""

import math

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.ops.stdp import cpu as stdp_cpu
from ranvier.ops.stdp.rule import Rule
from ranvier.ops.winner_take_all import Circuit, cpu, rest, winner_take_all

F64 = torch.float64
RULES = (Rule.symmetric(5e-3, 40.0, 1.0), Rule.symmetric(4e-2, 40.0, 8.0))


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    for module in (cpu, stdp_cpu):
        monkeypatch.setattr(module, "empty", lambda shape, dtype: torch.full(tuple(shape), math.nan, dtype=dtype))


def case(steps=300, batch=2, inputs=40, neurons=19, classes=5, dtype=F64, circuit=Circuit(), density=0.1):
    g = torch.Generator().manual_seed(0)
    weight = torch.rand(batch, inputs, neurons, generator=g, dtype=dtype) * 0.4
    readout = torch.rand(batch, neurons, classes, generator=g, dtype=dtype) * 8
    theta = torch.full((neurons,), 20.0, dtype=dtype)
    state = rest(weight, readout, theta, circuit, batch) | {"weight": weight, "readout": readout}
    x, teacher = ((torch.rand(steps, batch, n, generator=g) < density).to(dtype) for n in (inputs, classes))
    return x, teacher, state


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    "size", [{}, {"batch": 1, "inputs": 1, "neurons": 1, "classes": 1}, {"steps": 1}, {"steps": 0}]
)
def test_kernel_is_the_reference(learns, taught, dtype, size):
    x, teacher, state = case(dtype=dtype, **size)
    given = {k: v.clone() for k, v in state.items()}
    arguments = (x, state, Circuit(), RULES if learns else None, teacher if taught else None, True)
    found = winner_take_all(*arguments)
    with ranvier.backend("reference"):
        expected = winner_take_all(*arguments)
    assert torch.equal(found.output, expected.output) and torch.equal(found.hidden, expected.hidden)
    assert torch.equal(found.fired, found.hidden.sum(0)) and torch.equal(found.fired, expected.fired)
    assert found.state.keys() == expected.state.keys() == state.keys()
    for key, value in found.state.items():
        near = 1e-10 if dtype == F64 else 1e-3
        torch.testing.assert_close(value, expected.state[key], atol=near, rtol=0)
        assert torch.equal(state[key], given[key])
    if not size:
        assert found.fired.sum() > 10 and (found.output.any() or taught)


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_chunks_are_the_whole(backend):
    x, teacher, state = case(steps=200)
    with ranvier.backend(backend):
        whole = winner_take_all(x, state, Circuit(), RULES, teacher, True)
        parts = []
        for low, high in ((0, 1), (1, 77), (77, 77), (77, 200)):
            parts.append(winner_take_all(x[low:high], state, Circuit(), RULES, teacher[low:high], True))
            state = parts[-1].state
    assert torch.equal(torch.cat([p.hidden for p in parts]), whole.hidden)
    for key, value in whole.state.items():
        torch.testing.assert_close(state[key], value, atol=1e-9, rtol=0)


def test_a_neuron_silences_the_others_and_its_threshold_rises():
    circuit = Circuit()
    weight, readout = torch.tensor([[[8.0, 6.0]]], dtype=F64), torch.zeros(1, 2, 1, dtype=F64)
    theta = torch.full((2,), 20.0, dtype=F64)
    state = rest(weight, readout, theta, circuit, 1) | {"weight": weight, "readout": readout}
    x = torch.zeros(60, 1, 1, dtype=F64)
    x[::2] = 1
    found = winner_take_all(x, state, circuit, RULES, record=True)
    first = int(found.hidden[:, 0, 0].nonzero()[0])
    assert found.fired[0, 0] > 0 and found.fired[0, 1] == 0
    once = winner_take_all(x[: first + 1], state, circuit, RULES)
    grown = 20.0 * math.exp(-(first + 1) * 0.5 / 6e6) + 0.07  # 0.07 (20 - 10) / |20 - 10|
    assert once.state["theta"][0, 0].item() == pytest.approx(grown, abs=1e-6)
    alone = winner_take_all(x, state, Circuit(inhibition=0.0), RULES)
    assert alone.fired[0, 1] > 0


def test_without_rules_everything_rests():
    x, teacher, state = case()
    for told in (None, teacher):
        after = winner_take_all(x, state, Circuit(), None, told).state
        for key in ("weight", "readout", "theta", "pre", "post", "pre_out", "post_out"):
            assert torch.equal(after[key], state[key])


def test_no_weight_falls():
    x, teacher, state = case()
    after = winner_take_all(x, state, Circuit(), RULES, teacher).state
    for key in ("weight", "readout"):
        assert bool((after[key] >= state[key]).all()) and not torch.equal(after[key], state[key])


def test_weights_that_rest_may_be_shared():
    x, _, state = case(batch=3)
    shared = {**state, **{k: state[k][:1].expand(3, -1, -1) for k in ("weight", "readout")}}
    own = {**state, **{k: shared[k].clone() for k in ("weight", "readout")}}
    a, b = (winner_take_all(x, s, Circuit()) for s in (shared, own))
    assert torch.equal(a.fired, b.fired) and torch.equal(a.output, b.output) and a.fired.any()


def test_refusals():
    x, teacher, state = case(steps=3)
    triplet = Rule(0.1, 0.1, 1.0, 1.0, a3_plus=0.1)
    for call in (
        lambda: winner_take_all(x[..., 1:], state, Circuit()),
        lambda: winner_take_all(x, {}, Circuit()),
        lambda: winner_take_all(x, state, Circuit(), RULES, teacher[:1]),
        lambda: winner_take_all(x * 0.5, state, Circuit()),
        lambda: winner_take_all(x, state, Circuit(), (triplet, triplet)),
        lambda: Circuit(dt=0.0),
    ):
        with pytest.raises(Refusal):
            call()
