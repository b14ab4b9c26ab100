"""Plasticity at events: kernels against the step-by-step reference, and against pairs and triplets worked out by hand."""

import math

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp import cpu, stdp, stdp_layer, traces
from ranvier.ops.stdp.homeostasis import balanced, scaled
from ranvier.ops.stdp.reference import Neurons
from ranvier.ops.stdp.rule import Rule

F64 = torch.float64
RULES = {
    "pair": Rule(0.03, 0.02, 7.0, 11.0, low=-0.2, high=0.9),
    "nearest": Rule(0.03, 0.02, 7.0, 11.0, nearest=True),
    "soft": Rule(0.3, 0.2, 7.0, 11.0, soft=True),
    "triplet": Rule(0.01, 0.02, 7.0, 11.0, a3_plus=0.05, a3_minus=0.03, tau_x=20.0, tau_y=15.0),
    "triplet, nearest, soft": Rule(
        0.01, 0.02, 7.0, 11.0, a3_plus=0.05, a3_minus=0.03, tau_x=20.0, tau_y=15.0, nearest=True, soft=True
    ),
    "symmetric": Rule.symmetric(0.03, 9.0, 0.7923),
    "anti-Hebbian": Rule(-0.03, -0.02, 7.0, 11.0, soft=True),
    "short": Rule(0.03, 0.02, 0.5, 0.7),  # clocks move on many times
    "potentiation alone": Rule(0.03, 0.0, 7.0, 11.0, low=-math.inf, high=math.inf),
    "depression alone": Rule(0.0, 0.02, 7.0, 11.0),
}
SIZES = [(90, 3, 13, 37), (1, 1, 1, 1), (40, 2, 5, 1), (150, 1, 3, 70), (0, 2, 4, 3), (300, 1, 20, 9)]


def random_case(steps, batch, inputs, outputs, dtype=F64, density=0.15, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(batch, inputs, outputs, generator=generator, dtype=dtype) * 0.6
    pre, post = ((torch.rand(steps, batch, n, generator=generator) < density).to(dtype) for n in (inputs, outputs))
    return weight, pre, post


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that a kernel gets holds NaN."""
    monkeypatch.setattr(cpu, "empty", lambda shape, dtype: torch.full(tuple(shape), math.nan, dtype=dtype))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_kernel_is_the_reference(name, size, dtype):
    rule, (weight, pre, post) = RULES[name], random_case(*size, dtype)
    given = weight.clone()
    found, state = stdp(weight, pre, post, rule)
    with ranvier.backend("reference"):
        expected, after = stdp(weight, pre, post, rule)
    near = {"atol": 1e-12 if dtype == F64 else 2e-5, "rtol": 0.0}
    torch.testing.assert_close(found, expected, **near)
    assert state.keys() == after.keys() == rule.traces.keys()
    for key in state:
        torch.testing.assert_close(state[key], after[key], **near)
    assert torch.equal(weight, given)
    assert found.min() >= rule.low and found.max() <= max(rule.high, 0.6)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_silence_changes_nothing_and_all_spikes_are_the_reference(density):
    weight, pre, post = random_case(20, 2, 6, 30, density=density)
    found, _ = stdp(weight, pre, post, RULES["triplet"])
    with ranvier.backend("reference"):
        expected, _ = stdp(weight, pre, post, RULES["triplet"])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert torch.equal(found, weight) == (density == 0)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_chunks_are_the_whole(name, backend):
    rule, (weight, pre, post) = RULES[name], random_case(100, 2, 7, 30)
    with ranvier.backend(backend):
        whole, end = stdp(weight, pre, post, rule)
        state = None
        for low, high in ((0, 1), (1, 33), (33, 33), (33, 100)):
            weight, state = stdp(weight, pre[low:high], post[low:high], rule, state)
    torch.testing.assert_close(weight, whole, atol=1e-12, rtol=0)
    for key in end:
        torch.testing.assert_close(state[key], end[key], atol=1e-12, rtol=1e-9)


def at(*steps, length=60):
    train = torch.zeros(length, 1, 1, dtype=F64)
    train[list(steps)] = 1
    return train


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize(
    ("pre", "post", "change"),
    [
        ((3,), (), 0.0),
        ((3,), (3,), 0.1),
        ((3,), (8,), 0.1 * math.exp(-5 / 20)),
        ((8,), (3,), -0.05 * math.exp(-5 / 30)),
        ((3, 8), (10,), 0.1 * (math.exp(-7 / 20) + math.exp(-2 / 20))),
        ((10,), (3, 8), -0.05 * (math.exp(-7 / 30) + math.exp(-2 / 30))),
        ((5, 20), (10,), 0.1 * math.exp(-5 / 20) - 0.05 * math.exp(-10 / 30)),
    ],
)
def test_pairs_by_hand(backend, pre, post, change):
    with ranvier.backend(backend):
        weight, _ = stdp(torch.full((1, 1, 1), 0.5, dtype=F64), at(*pre), at(*post), Rule(0.1, 0.05, 20.0, 30.0))
    assert weight.item() == pytest.approx(0.5 + change, abs=1e-12)


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_nearest_pairs_by_hand(backend):
    rule = Rule(0.1, 0.05, 20.0, 30.0, nearest=True)
    with ranvier.backend(backend):
        grown, _ = stdp(torch.full((1, 1, 1), 0.5, dtype=F64), at(3, 8), at(10), rule)
        shrunk, _ = stdp(torch.full((1, 1, 1), 0.5, dtype=F64), at(10), at(3, 8), rule)
    assert grown.item() == pytest.approx(0.5 + 0.1 * math.exp(-2 / 20), abs=1e-12)
    assert shrunk.item() == pytest.approx(0.5 - 0.05 * math.exp(-2 / 30), abs=1e-12)


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize(
    ("pre", "post", "change"),
    [  # post-pre-post and pre-post-pre
        ((10,), (5, 20), 0.3 * math.exp(-10 / 16) * math.exp(-15 / 40)),
        ((5, 20), (10,), -0.2 * math.exp(-10 / 34) * math.exp(-15 / 50)),
        ((5,), (10,), 0.0),  # the trace of a neuron's own spike is the one before it
        ((10,), (5,), 0.0),
    ],
)
def test_triplets_by_hand(backend, pre, post, change):
    rule = Rule(0.0, 0.0, 16.0, 34.0, a3_plus=0.3, a3_minus=0.2, tau_x=50.0, tau_y=40.0)
    with ranvier.backend(backend):
        weight, _ = stdp(torch.full((1, 1, 1), 0.5, dtype=F64), at(*pre), at(*post), rule)
    assert weight.item() == pytest.approx(0.5 + change, abs=1e-12)


def test_nothing_changes_before_the_first_pair():
    weight, pre, post = random_case(80, 1, 4, 5)
    post[:50] = 0
    found, _ = stdp(weight, pre[:50], post[:50], RULES["triplet"])
    assert torch.equal(found, weight)
    later = pre.clone()
    later[70:] = 1
    a, b = (stdp(weight, x[:70], post[:70], RULES["pair"])[0] for x in (pre, later))
    assert torch.equal(a, b)


def test_events_are_dense_spikes_and_a_neuron_fires_once_a_step():
    weight, pre, post = random_case(50, 2, 9, 11)
    events = [Spikes.from_dense(x.float()) for x in (pre, post)]
    assert torch.equal(stdp(weight, *events, RULES["pair"])[0], stdp(weight, pre, post, RULES["pair"])[0])
    twice = Spikes.from_events([1, 1], [0, 0], [0, 0], (4, 1, 1))
    once = Spikes.from_events([1], [0], [0], (4, 1, 1))
    weight = torch.full((1, 1, 1), 0.5)
    for other in (twice, once):
        assert torch.equal(stdp(weight, twice, other, RULES["pair"])[0], stdp(weight, once, once, RULES["pair"])[0])


def rest(weight, rule, outputs):
    batch = len(weight)
    state = {k: weight.new_zeros(batch, outputs) for k in ("v", "z", "theta")}
    return {"weight": weight, **state, **traces(rule, weight)}


NEURONS = {
    "alone": Neurons(0.9, 1.5),
    "adaptive": Neurons(0.9, 1.0, theta_plus=0.2, tau_theta=30.0),
    "inhibited": Neurons(0.95, 1.0, inhibition=0.1),
    "single": Neurons(0.95, 1.0, theta_plus=0.1, tau_theta=200.0, inhibition=0.3, single=True),
}


@pytest.mark.parametrize("neurons", NEURONS)
@pytest.mark.parametrize("name", ["pair", "nearest", "triplet", "symmetric"])
@pytest.mark.parametrize("size", SIZES)
def test_a_layer_is_the_reference(neurons, name, size):
    rule, (weight, x, _) = RULES[name], random_case(*size, density=0.3)
    state = rest(weight, rule, size[3])
    for learnt in (rule, None):
        z, after = stdp_layer(x, NEURONS[neurons], learnt, state)
        with ranvier.backend("reference"):
            expected, end = stdp_layer(x, NEURONS[neurons], learnt, state)
        assert torch.equal(z, expected)
        for key in after:
            torch.testing.assert_close(after[key], end[key], atol=1e-11, rtol=0)
    if size == SIZES[0]:
        assert z.any()


@pytest.mark.parametrize("neurons", NEURONS)
def test_chunks_of_a_layer_are_the_whole(neurons):
    rule, (weight, x, _) = RULES["triplet"], random_case(100, 2, 9, 20, density=0.3)
    whole, end = stdp_layer(x, NEURONS[neurons], rule, rest(weight, rule, 20))
    state, parts = rest(weight, rule, 20), []
    for low, high in ((0, 1), (1, 40), (40, 40), (40, 100)):
        z, state = stdp_layer(x[low:high], NEURONS[neurons], rule, state)
        parts.append(z)
    assert torch.equal(torch.cat(parts), whole)
    for key in end:
        torch.testing.assert_close(state[key], end[key], atol=1e-11, rtol=1e-9)


def test_weights_that_rest_may_be_shared():
    weight, x, _ = random_case(60, 3, 9, 20, density=0.3)
    shared = weight[:1].expand(3, -1, -1)
    a, b = (stdp_layer(x, NEURONS["single"], None, rest(w, RULES["pair"], 20))[0] for w in (shared, shared.clone()))
    assert torch.equal(a, b) and a.any()


def test_homeostasis():
    weight = torch.rand(7, 3)
    assert scaled(weight, 2.5).sum(0) == pytest.approx([2.5] * 3, rel=1e-6)
    found = balanced(torch.tensor([[1.0, -1.0], [3.0, -2.0], [-5.0, -1.0]]), 1.0, 0.5)
    assert found.tolist() == [[0.5, -1.0], [1.5, -2.0], [-1.0, -1.0]]  # without a positive weight as it was


@pytest.mark.parametrize(
    "call",
    [
        lambda: Rule(0.1, 0.1, 0.0, 1.0),
        lambda: Rule(math.nan, 0.1, 1.0, 1.0),
        lambda: Rule(0.1, 0.1, 1.0, 1.0, low=1.0, high=0.0),
        lambda: Rule(0.1, 0.1, 1.0, 1.0, high=math.inf, soft=True),
        lambda: Rule(0.1, 0.1, 1.0, 1.0, a3_plus=-0.1),
        lambda: stdp(torch.rand(3, 2), torch.zeros(1, 1, 3), torch.zeros(1, 1, 2), RULES["pair"]),
        lambda: stdp(torch.rand(1, 3, 2), torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), RULES["pair"]),
        lambda: stdp(torch.rand(1, 3, 2), torch.zeros(2, 1, 3), torch.zeros(1, 1, 2), RULES["pair"]),
        lambda: stdp(torch.rand(1, 3, 2), torch.full((1, 1, 3), 0.5), torch.zeros(1, 1, 2), RULES["pair"]),
        lambda: stdp(torch.rand(1, 3, 2), torch.zeros(1, 1, 3), torch.zeros(1, 1, 2), RULES["pair"], {}),
        lambda: stdp(
            torch.rand(1, 3, 2),
            torch.zeros(1, 1, 3),
            torch.zeros(1, 1, 2),
            RULES["pair"],
            {"pre": torch.zeros(1, 3), "post": torch.zeros(2, 2)},
        ),
    ],
)
def test_refusals(call):
    with pytest.raises(Refusal):
        call()
