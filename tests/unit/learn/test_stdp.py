"""The public rules: shapes, batches, bounds, causality, and layers that learn while they run."""

import math

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.learn.homeostatic_rescale import HomeostaticRescale
from ranvier.learn.pair_stdp import PairSTDP
from ranvier.learn.plastic_lif import PlasticLIF
from ranvier.learn.sym_stdp import SymSTDP
from ranvier.learn.synaptic_scaling import SynapticScaling
from ranvier.learn.teacher_stdp import TeacherSTDP
from ranvier.learn.triplet_stdp import TripletSTDP
from ranvier.ops.spike_pack.spikes import Spikes

RULES = {
    "pair": PairSTDP(0.05, 0.06),
    "nearest": PairSTDP(0.05, 0.06, pairs="nearest"),
    "soft": PairSTDP(0.5, 0.6, bounds="soft"),
    "triplet": TripletSTDP(),
    "triplet, nearest": TripletSTDP(0.1, 0.1, 0.1, 0.1, pairs="nearest", bounds="soft"),
    "symmetric": SymSTDP(0.5),
}


def trains(steps=80, batch=3, inputs=6, outputs=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(steps, batch, n, generator=generator) < 0.2).float() for n in (inputs, outputs)]


@pytest.mark.parametrize("name", RULES)
def test_one_weight_for_all_samples_is_the_mean_of_their_own(name):
    rule, (pre, post) = RULES[name], trains()
    weight = torch.rand(6, 4)
    shared, state = rule(weight, pre, post)
    own, own_state = rule(weight.expand(3, 6, 4), pre, post)
    assert torch.equal(shared, own.mean(0)) and shared.shape == (6, 4)
    each = [rule(weight, pre[:, b : b + 1], post[:, b : b + 1])[0] for b in range(3)]
    torch.testing.assert_close(torch.stack(each), own)
    assert all(torch.equal(state[k], own_state[k]) for k in state)


@pytest.mark.parametrize("name", RULES)
def test_weights_stay_in_bounds_and_follow_their_spikes_alone(name):
    rule, (pre, post) = RULES[name], trains(steps=400)
    weight = torch.rand(6, 4)
    found, _ = rule(weight, pre, post)
    assert found.min() >= 0 and found.max() <= 1 and not torch.equal(found, weight)
    silent, _ = rule(weight, pre, torch.zeros_like(post))
    assert torch.allclose(silent, weight, atol=1e-6)
    first, state = rule(weight.expand(3, 6, 4), pre[:200], post[:200])
    chunked, _ = rule(first, pre[200:], post[200:], state)
    torch.testing.assert_close(chunked.mean(0), found, atol=1e-5, rtol=0)


def test_a_window_is_in_the_unit_of_dt():
    a, b = torch.zeros(21, 1, 1), torch.zeros(21, 1, 1)
    a[0], b[20] = 1, 1
    weight, _ = PairSTDP(0.1, tau_plus=20.0, dt=0.5)(torch.full((1, 1), 0.5), a, b)
    assert weight.item() == pytest.approx(0.5 + 0.1 * math.exp(-10 / 20))


def test_soft_bounds_by_hand():
    one = torch.ones(1, 1, 1)
    weight, _ = PairSTDP(0.5, bounds="soft", low=0.0, high=2.0)(torch.full((1, 1), 0.8), one, one)
    assert weight.item() == pytest.approx(0.8 + 0.5 * (2.0 - 0.8))


def test_the_symmetric_rule_is_symmetric_and_never_weakens():
    pre, post = trains(steps=600)
    weight = torch.rand(6, 4) * 0.1
    there, back = SymSTDP(0.01)(weight, pre, post)[0], SymSTDP(0.01)(weight.t(), post, pre)[0].t()
    torch.testing.assert_close(there, back, atol=1e-6, rtol=0)
    assert bool((there > weight).all())


def test_scaling_and_rescaling():
    weight = torch.rand(50, 7)
    assert (SynapticScaling(78.4)(weight).sum(0) / 78.4 - 1).abs().max() < 1e-5
    found = HomeostaticRescale(1.0, 0.8)(torch.tensor([[2.0], [2.0], [-3.0], [0.0]]))
    assert found.flatten().tolist() == pytest.approx([0.625, 0.625, -0.625, -0.625])


def layer(**options):
    torch.manual_seed(0)
    return PlasticLIF(6, 5, PairSTDP(0.05, 0.06), tau=20.0, threshold=0.5, theta_plus=0.05, inhibition=0.1, **options)


def test_a_plastic_layer_is_a_pure_function_whose_weights_are_state():
    module, (x, _) = layer(), trains()
    weight = module.weight.clone()
    whole, end = ranvier.run(module, x)
    assert torch.equal(module.weight, weight) and torch.equal(whole, module(x)) and whole.any()
    assert not torch.equal(end["weight"][0], end["weight"][1])
    first, state = ranvier.run(module, x[:30])
    second, state = ranvier.run(module, x[30:], state)
    assert torch.equal(whole, torch.cat([first, second]))
    torch.testing.assert_close(state["weight"], end["weight"], atol=1e-6, rtol=0)
    events, _ = ranvier.run(module, Spikes.from_dense(x))
    assert torch.equal(events, whole)
    module.keep(end)
    assert torch.equal(module.weight, end["weight"].mean(0))


def test_in_eval_mode_weights_and_thresholds_rest():
    module, (x, _) = layer().eval(), trains()
    y, state = ranvier.run(module, x)
    assert y.any() and torch.equal(state["weight"], module.weight.expand(3, 6, 5)) and not state["theta"].any()


@pytest.mark.parametrize(
    "call",
    [
        lambda: PairSTDP(tau_plus=0.0),
        lambda: PairSTDP(pairs="some"),
        lambda: TripletSTDP(bounds="none"),
        lambda: SymSTDP(0.1, w_max=-1.0),
        lambda: SynapticScaling(0.0),
        lambda: SynapticScaling(1.0)(torch.ones(3)),
        lambda: HomeostaticRescale(1.0, 1.5),
        lambda: PairSTDP()(torch.ones(3), *trains()),
        lambda: PairSTDP()(torch.ones(6, 4), trains()[0][:, 0], trains()[1]),
        lambda: TeacherSTDP()(torch.ones(2, 6, 4), *trains()),
        lambda: layer(dt=0.0),
        lambda: layer()(torch.zeros(3, 2, 7)),
        lambda: layer()(torch.full((3, 2, 6), 0.5)),
    ],
)
def test_refusals(call):
    with pytest.raises(Refusal):
        call()
