"""Simulated networks against the reference, spike by spike: neurons, synapses, delays, external input, blocks and parts."""

import copy

import numpy as np
import pytest
import torch

import ranvier
from ranvier.compile.advance import advance
from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover
from ranvier.deploy.populations import simulation
from ranvier.deploy.populations.connections import FixedInDegree, FixedProbability, Pairs
from ranvier.deploy.populations.network import Network, Poisson, Population, Projection
from ranvier.nn.neurons.ei_conductance_lif import EIConductanceLIF
from ranvier.nn.neurons.ei_current_lif import EICurrentLIF
from ranvier.nn.neurons.integrate_and_fire import IF
from ranvier.nn.neurons.lif import LIF
from ranvier.nn.neurons.refractory_lif import RefractoryLIF

VOGELS = {"tau": 20.0, "tau_e": 5.0, "tau_i": 10.0, "refractory": 5.0, "dt": 0.1, "discretisation": "exact"}


def current_based(size=60, seed=0):
    e, i = (Population(EICurrentLIF(**VOGELS, v_rest=-49.0), n) for n in (4 * size, size))
    into = FixedProbability(0.2)
    projections = [
        *(Projection("E", name, into, "g_e", 3.0, delay=8) for name in ("E", "I")),
        *(Projection("I", name, into, "g_i", -16.0, delay=8) for name in ("E", "I")),
    ]
    return Network({"E": e, "I": i}, projections, seed=seed)


def conductance_based(size=60):
    e, i = (Population(EIConductanceLIF(**VOGELS, v_rest=-40.0), n) for n in (4 * size, size))
    into = FixedInDegree(30)
    projections = [
        *(Projection("E", name, into, "g_e", 0.6, delay=1) for name in ("E", "I")),
        *(Projection("I", name, into, "g_i", 3.0, delay=20) for name in ("E", "I")),
    ]
    return Network({"E": e, "I": i}, projections)


def driven(size=150, seed=0):
    """External spikes onto the membrane, delays and weights of each synapse its own, and a neuron with parameters of its own."""
    generator = torch.Generator().manual_seed(0)
    neuron = RefractoryLIF(tau=20.0, refractory=2.0, v_reset=10.0, threshold=20.0, dt=0.5, discretisation="exact")
    other = RefractoryLIF(tau=5.0 + 20 * torch.rand(size, generator=generator), threshold=20.0, refractory=1.0, dt=0.5)
    source, target = torch.randint(size, (2, 4000), generator=generator)
    weight, delay = 2 * torch.randn(4000, generator=generator), torch.randint(1, 9, (4000,), generator=generator)
    projections = [
        Projection("a", "b", Pairs(source, target), "v", weight, delay),
        Projection("b", "a", FixedInDegree(10), "v", -2.0, delay=3),
        Projection("a", "a", Pairs(source, target), "v", 0.25, delay),
    ]
    inputs = [Poisson("a", "v", 1.0, rate=0.8), Poisson("b", "v", 0.5, rate=0.05), Poisson("a", "v", -0.5, rate=0.1)]
    return Network(
        {"a": Population(neuron, size), "b": Population(other, size, current=torch.linspace(15, 25, size))},
        projections,
        inputs,
        seed,
    )


def integers(size=100):
    """Weights and membranes that are sums of powers of 2: no rounding, so every spike and state is the reference's."""
    source, target = np.random.default_rng(1).integers(0, size, (2, 3000))
    weight = torch.randint(-3, 9, (3000,), generator=torch.Generator().manual_seed(1)) / 16
    delay = torch.randint(2, 40, (3000,), generator=torch.Generator().manual_seed(2))
    projections = [Projection("x", "x", Pairs(source, target), "v", weight, delay)]
    neuron = IF(threshold=1.0)
    return Network({"x": Population(neuron, size, current=0.125)}, projections, [Poisson("x", "v", 0.0625, 0.3)])


NETWORKS = {f.__name__: f for f in (current_based, conductance_based, driven, integers)}
every = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def begun(network):
    state = network.rest()
    for name in list(state):
        if name.endswith(".v") and state[name].min() == -60:
            state[name] = -60 + 10 * torch.rand(state[name].shape, generator=torch.Generator().manual_seed(3))
    return state


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name].t, other[name].t) and torch.equal(one[name].index, other[name].index), name


@every
def test_every_spike_is_that_of_the_reference(make):
    network = make()
    state = begun(network)
    spikes, after = network.run(400, state)
    with ranvier.backend("reference"):
        expected, last = network.run(400, state)
    assert sum(map(len, spikes.values())) > 100 and all(len(s) for s in spikes.values())
    same(spikes, expected)
    assert list(after) == list(last) == list(state)
    for name in after:
        assert torch.allclose(after[name], last[name], rtol=1e-4, atol=1e-4), name
        assert after[name].dtype == last[name].dtype == state[name].dtype
        if make is integers:
            assert torch.equal(after[name], last[name])


@every
@pytest.mark.parametrize("cuts", [[1], [7, 7, 9], [3, 100], [0, 64, 65]])
def test_a_run_in_parts_is_the_whole_run_whatever_the_backend_of_a_part(make, cuts):
    network = make()
    state = begun(network)
    whole, last = network.run(200, state)
    parts = []
    for steps in (*cuts, 200 - sum(cuts)):
        spikes, state = network.run(steps, state)
        parts.append(spikes)
    for name in whole:
        assert torch.equal(whole[name].t, torch.cat([p[name].t for p in parts]))
        assert torch.equal(whole[name].index, torch.cat([p[name].index for p in parts]))
    assert all(torch.equal(last[k], state[k]) for k in last)


@every
@pytest.mark.parametrize("block", [16, 48, 1 << 20])
def test_blocks_and_threads_do_not_change_a_bit(make, block, monkeypatch):
    network = make()
    state = begun(network)
    spikes, after = network.run(150, state)
    monkeypatch.setattr(simulation, "BLOCK", block)
    monkeypatch.setattr(simulation, "LEAST", min(block, 32))
    monkeypatch.setattr(simulation, "SMALL", 0)
    torch.set_num_threads(2)
    try:
        others, last = make().run(150, state)
    finally:
        torch.set_num_threads(1)
    same(spikes, others)
    assert all(torch.equal(after[k], last[k]) for k in after)


def test_records_grow_when_many_fire():
    spikes, _ = Network({"x": Population(IF(threshold=0.5), 40, current=1.0)}).run(5000)
    assert len(spikes["x"]) == 40 * 5000 and spikes["x"].dense().all()


def test_a_network_with_compiled_neurons_and_synapses_in_numpy_is_equal_to_the_bit():
    network = current_based()
    state = begun(network)
    spikes, after = network.run(1000, state)
    steps, sizes = {}, {k: p.size for k, p in network.populations.items()}
    for name, population in network.populations.items():
        neuron = population.neuron
        given = {k: np.float32([getattr(neuron, k)]) for k in neuron.declared}
        steps[name] = advance(neuron._program(()), given, [s.rest for s in neuron.states.values()], population.size)
        steps[name].states["v"][:] = state[f"{name}.v"]
    synapses = []
    for number, p in enumerate(network.parts.projections):
        source, target, _ = p.connection.synapses(sizes[p.source], sizes[p.target], 0, sizes[p.target], (0, number))
        synapses.append((p, source, target))
    fired = {name: [] for name in sizes}
    for t in range(1000):
        for p, source, target in synapses:
            for i in fired[p.source][t - p.delay] if t >= p.delay else ():
                np.add.at(steps[p.target].states[p.onto], target[source == i], np.float32(p.weight))
        for name, step in steps.items():
            fired[name].append(step().copy())
    for name in sizes:
        index = np.concatenate(fired[name])
        assert np.array_equal(spikes[name].index, index) and len(index) > 30
        assert all(np.array_equal(after[f"{name}.{k}"], v) for k, v in steps[name].states.items())


NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
NUMBERS = {"integer-lif", "ternary-lif", "multi-threshold", "sigma-delta", "ultradiscretised-lif", "leaky-integrator"}
"""Neurons that give out other numbers than 0 and 1."""


@pytest.mark.parametrize("name", NEURONS)
def test_any_neuron_whose_output_is_a_spike_can_be_simulated_and_others_are_refused(name):
    """Those that draw random numbers included."""
    neuron = NEURONS[name]()
    state = next(iter(neuron.states), "v")
    try:
        strength = 3.0 if getattr(neuron, "threshold", torch.ones(())).item() < 5 else 20.0
        population = Population(neuron, 50, current=strength)
    except Refusal as why:
        assert name in NUMBERS and "0 or 1" in str(why)
        return
    assert name not in NUMBERS
    network = Network({"x": population}, [Projection("x", "x", FixedInDegree(5), state, 0.01, delay=2)])
    spikes, _ = network.run(60)
    with ranvier.backend("reference"):
        expected, _ = network.run(60)
    same(spikes, expected)


def test_poisson_input_has_its_rate_and_its_spread():
    for rate in (0.01, 0.7, 2.0, 30.0, 900.0):
        network = Network({"x": Population(IF(threshold=1e9), 500)}, inputs=[Poisson("x", "v", 1.0, rate)])
        _, state = network.run(200)
        counts = state["x.v"].double()
        assert counts.mean().item() == pytest.approx(200 * rate, abs=5 * (200 * rate / 500) ** 0.5)
        assert counts.var().item() == pytest.approx(200 * rate, rel=0.4)


def test_another_seed_draws_other_synapses_and_spikes():
    one, other = (driven(seed=s).run(100)[0] for s in (0, 1))
    assert not torch.equal(one["a"].index, other["a"].index)


def test_the_network_can_be_copied_and_shows_its_parameters():
    network = current_based()
    first, _ = network.run(100)
    again, _ = copy.deepcopy(network).run(100)
    same(first, again)
    assert len(network.state_dict()) == 2 * len(EICurrentLIF.declared)


def test_a_changed_parameter_counts_at_the_next_run():
    network = Network({"x": Population(LIF(), 1, current=1.5)})
    before = len(network.run(50)[0]["x"])
    network.populations["x"].neuron.threshold.fill_(1.4)
    assert len(network.run(50)[0]["x"]) < before


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Population(LIF(), 0), r"Population: expected at least one neuron; got size 0"),
        (lambda: Population(LIF(tau=torch.full((3,), 2.0)), 4), r"LIF\.tau: expected one number, or one for each of the 4.*\(3,\)"),
        (lambda: Population(LIF(), 4, current=torch.zeros(2)), r"Population\.current: .*each of the 4"),
        (lambda: Population(ranvier.IntegerLIF(), 4), r"a neuron whose output is 0 or 1; got IntegerLIF"),
        (lambda: Population(ranvier.LeakyIntegrator(), 4), r"a neuron whose output is 0 or 1; got LeakyIntegrator"),
        (lambda: Projection("a", "b", FixedInDegree(1), "v", 1.0, 0), r"a -> b\.delay: expected whole steps from 1 on; got 0"),
        (lambda: Projection("a", "b", FixedInDegree(1), "v", 1.0, 1.5), r"delay: expected whole steps from 1 on; got 1\.5"),
        (lambda: Projection("a", "b", FixedInDegree(1), "v", float("nan")), r"weight: expected finite"),
        (lambda: Projection("a", "b", Pairs([0], [0]), "v", 1.0, torch.tensor([-2])), r"from 1 on; got -2"),
        (lambda: FixedInDegree(0), r"FixedInDegree: expected a number from 1 on; got 0"),
        (lambda: FixedProbability(0.0), r"a probability in \(0, 1\]; got 0\.0"),
        (lambda: FixedProbability(1.5), r"a probability in \(0, 1\]; got 1\.5"),
        (lambda: Poisson("x", "v", 1.0, 0.0), r"spikes a step, in \(0, 10000\]; got 0\.0"),
        (lambda: Poisson("x", "v", 1.0, float("inf")), r"spikes a step"),
        (lambda: Network({}), r"at least one population; got none"),
        (lambda: Network({"a.b": Population(LIF(), 1)}), r"names without a dot; got 'a\.b'"),
        (lambda: small([Projection("xx", "x", FixedInDegree(1), "v", 1.0)]), r"got 'xx'\. Did you mean 'x'"),
        (lambda: small([Projection("x", "y", FixedInDegree(1), "v", 1.0)]), r"a population of the network; got 'y'"),
        (lambda: small([Projection("x", "x", FixedInDegree(1), "g_e", 1.0)]), r"Projection onto x: expected a state of LIF; got 'g_e'"),
        (lambda: small([], [Poisson("x", "g", 1.0, 1.0)]), r"Poisson onto x: expected a state of LIF; got 'g'"),
        (lambda: small([], [Poisson("z", "v", 1.0, 1.0)]), r"a population of the network; got 'z'"),
        (lambda: small().run(-1), r"steps from 0 on; got -1"),
        (lambda: small([Projection("x", "x", Pairs([0, 4], [0, 0]), "v", 1.0)]).run(1), r"Pairs\.source: .*0 to 3.*got 4"),
        (lambda: small([Projection("x", "x", Pairs([0, 0], [0, -1]), "v", 1.0)]).run(1), r"Pairs\.target: .*0 to 3.*got -1"),
        (lambda: small([Projection("x", "x", Pairs([0, 0], [0]), "v", 1.0)]).run(1), r"as many sources as targets; got 2 and 1"),
        (lambda: small([Projection("x", "x", Pairs([0.5], [0]), "v", 1.0)]).run(1), r"a list of whole numbers; got float64"),
        (lambda: small([Projection("x", "x", Pairs([0, 1], [0, 1]), "v", torch.ones(3))]).run(1), r"each of the 2 synapses; got shape \(3,\)"),
        (lambda: small([Projection("x", "x", FixedInDegree(1), "v", torch.ones(3))]).run(1), r"expected one number; got shape \(3,\)"),
        (lambda: Pairs.from_csr(np.array([0, 2]), np.array([1])), r"row pointers that rise from 0 to the 1 synapses"),
        (lambda: small().run(1, {}), r"state 'x\.v': expected to be in the state; got none"),
        (lambda: small().run(1, small().rest() | {"y.v": torch.zeros(4)}), r"state 'y\.v': expected a variable of this network"),
        (lambda: small().run(1, small().rest() | {"x.v": torch.zeros(3)}), r"torch\.float32 of shape \(4,\); got .*\(3,\)"),
        (lambda: small().run(1, small().rest() | {"x.v": torch.zeros(4).double()}), r"got torch\.float64"),
        (lambda: small().run(1, small().rest() | {"x.past_t": torch.tensor([-1])}), r"past spikes in order"),
        (lambda: small().run(1, processes=True), r"expected a process group; got none"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(make, text):
    with pytest.raises(Refusal, match=text):
        make()


def small(projections=(), inputs=()):
    return Network({"x": Population(LIF(), 4)}, projections, inputs)


def test_csr_rows_are_sources():
    network = small(
        [Projection("x", "x", Pairs.from_csr(torch.tensor([0, 1, 3, 3, 3]), torch.tensor([2, 0, 3])), "v", 1.5, 2)]
    )
    state = network.rest()
    state["x.v"] = torch.tensor([4.0, 0, 0, 0])  # halved in a step, it fires
    spikes, _ = network.run(6, state)
    assert list(zip(spikes["x"].t.tolist(), spikes["x"].index.tolist(), strict=True)) == [(0, 0)]
    network.parts.projections[0].__dict__["weight"] = 2.5
    network.parts.ready.clear()
    spikes, _ = network.run(6, state)
    assert list(zip(spikes["x"].t.tolist(), spikes["x"].index.tolist(), strict=True)) == [(0, 0), (2, 2)]
