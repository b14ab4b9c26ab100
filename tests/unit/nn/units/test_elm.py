"""An ELM is its equations, restated with a trace at every synapse; its bounds are those of the card."""

import itertools
import math

import pytest
import torch

import ranvier
from ranvier import ELM, Refusal

F64 = torch.float64
CASES = {
    "defaults": {},
    "branches": {"branches": 2},
    "silu, learnt tau": {"branches": 3, "activation": "silu", "learn_tau": True},
    "version 2": {"version": 2, "learn_tau": True, "tau_memory": (2.0, 9.0), "gain": 3.0, "hidden": 5},
    "random routing": {"branches": 2, "synapses": 4, "routing": "random", "dt": 2.0},
    "windows": {"branches": 4, "synapses": 3, "routing": "windows", "tau_synapse": 3.0},
}
every = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def made(options, memory=3, outputs=2):
    torch.manual_seed(1)
    layer = ELM(6, outputs, memory, **options).double()
    with torch.no_grad():
        layer.weight.uniform_(-0.2, 1)  # some synapses are silent
    return layer


def drive(steps=9, batch=2):
    return torch.randn(steps, batch, 6, dtype=F64, generator=torch.Generator().manual_seed(2))


def restated(layer, x, options):
    """The card's equations, one sample and one synapse at a time."""
    p = {k: v.detach() for k, v in layer.state_dict().items()}
    routing, dt, gain = options.get("routing", "none"), options.get("dt", 1.0), options.get("gain", 5.0)
    branches = options.get("branches", 6)
    each = options.get("synapses", 6 // branches)
    interleaved = [0, 3, 1, 4, 2, 5]  # the first half is excitatory, the second inhibitory
    stride = math.ceil(6 / branches)
    source = {
        "none": lambda s: s,
        "random": lambda s: int(p["index"][s]),
        "windows": lambda s: interleaved[i] if (i := s // each * stride + s % each) < 6 else None,
    }[routing]
    kappa_s = math.exp(-dt / options.get("tau_synapse", 5.0))
    tau = layer.tau.detach()
    kappa_m = torch.exp(-dt / tau)
    strength = gain * (1 - kappa_m) if options.get("version", 1) == 1 else 1 - torch.exp(-dt * gain / tau)
    activate = torch.relu if options.get("activation", "relu") == "relu" else torch.nn.functional.silu
    y = torch.zeros(*x.shape[:2], layer.out_features, dtype=F64)
    for n in range(x.shape[1]):
        s, m = [0.0] * (branches * each), torch.zeros(layer.memory, dtype=F64)
        for t in range(len(x)):
            for i in range(len(s)):
                given = 0.0 if source(i) is None else float(x[t, n, source(i)])
                s[i] = kappa_s * s[i] + max(float(p["weight"][i]), 0.0) * given
            b = torch.tensor([sum(s[j * each : (j + 1) * each]) for j in range(branches)], dtype=F64)
            into = torch.cat([b, kappa_m * m])
            change = p["out.weight"] @ activate(p["into.weight"] @ into + p["into.bias"]) + p["out.bias"]
            m = kappa_m * m + strength * 1.7159 * torch.tanh(2 * change / 3)
            y[t, n] = p["readout.weight"] @ m + p["readout.bias"]
    return y


@every
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_the_output_is_that_of_the_equations_with_a_trace_at_every_synapse(options, backend):
    layer, x = made(options), drive()
    with ranvier.backend(backend):
        assert torch.allclose(layer(x), restated(layer, x, options), rtol=1e-10, atol=1e-12)


@every
def test_gradients_agree_with_finite_differences(options, differentiates):
    layer, x = made(options, memory=2, outputs=1), drive(steps=4, batch=1)
    with torch.no_grad():
        layer.weight.uniform_(0.2, 1)  # away from the bend of its ReLU
    state = {"b": torch.rand(1, layer.branches, dtype=F64), "m": torch.rand(1, 2, dtype=F64)}
    assert differentiates(layer, x, state)


@every
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-10), (torch.float32, 3e-5)], ids=str)
def test_hoisting_changes_no_number_and_no_gradient(options, dtype, tolerance, everything, close):
    layer, x = made(options, memory=7).to(dtype), drive(steps=25, batch=3).to(dtype)
    state = {"b": torch.rand(3, layer.branches, dtype=dtype), "m": torch.rand(3, 7, dtype=dtype)}
    with ranvier.backend("reference"):
        expected = everything(layer, x, state)
    assert close(everything(layer, x, state), expected, rtol=tolerance, atol=tolerance)


def test_without_gradients_nothing_is_kept_and_nothing_differs():
    layer, x = made({}), drive()
    with torch.no_grad():
        alone = layer(x)
    assert torch.equal(alone, layer(x)) and not alone.requires_grad


@every
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_chunks_give_the_whole(options, backend, in_chunks, close):
    layer, x = made(options), drive()
    with ranvier.backend(backend):
        y, state = ranvier.run(layer, x)
        for sizes in ((1, 0, 8), (4, 5), (1,) * 9):
            assert close(in_chunks(layer, x, *sizes), {"y": y, **state}, rtol=1e-12, atol=1e-13)


@every
@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (1, 2), (3, 0)])
def test_none_or_one_of_steps_and_an_empty_batch(options, steps, batch, everything, close):
    layer, x = made(options), drive(steps, batch)
    with ranvier.backend("reference"):
        expected = everything(layer, x)
    assert close(everything(layer, x), expected, rtol=1e-10, atol=1e-12)
    assert expected["y"].shape == (steps, batch, 2)


def test_the_state_is_two_courses_ends_and_survives_a_file(tmp_path):
    layer, x = made({"branches": 2}), drive()
    _, state, recorded = ranvier.run(layer, x, record=("b", "m"))
    assert recorded["b"].shape == (9, 2, 2) and recorded["m"].shape == (9, 2, 3)
    assert all(torch.equal(recorded[k][-1], state[k]) for k in state)
    ranvier.save({k: v.detach() for k, v in state.items()}, tmp_path / "state.safetensors")
    kept = ranvier.load(tmp_path / "state.safetensors")
    assert torch.equal(ranvier.run(layer, x, kept)[0], ranvier.run(layer, x, state)[0])


@every
def test_weights_loaded_into_another_unit_make_it_the_same(options):
    layer, x = made(options), drive()
    other = ELM(6, 2, 3, **options).double()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("options", [CASES["branches"], CASES["version 2"], CASES["silu, learnt tau"]])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_unit_equals_the_eager_one(options, backend, same_when_compiled):
    layer, x = made(options), drive(steps=4)
    assert same_when_compiled(layer, x, None, backend)
    state = {k: v.detach() for k, v in ranvier.run(layer, x)[1].items()}
    assert same_when_compiled(layer, x, state, backend)


def test_a_unit_compiled_by_inductor_equals_the_eager_one_with_all_gradients():
    layer, x = made(CASES["version 2"]), drive(steps=5)
    eager = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    found = torch.autograd.grad(torch.compile(layer, fullgraph=True)(x).square().sum(), list(layer.parameters()))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-11) for a, b in zip(found, eager, strict=True))


def test_autocast_leaves_the_memory_in_float32():
    layer, x = made({}).float(), drive().float()
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y, state = ranvier.run(layer, x)
        found.append([y, *state.values(), *torch.autograd.grad(y.square().sum(), list(layer.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    y, state = ranvier.run(layer, x.bfloat16())
    assert y.dtype == torch.bfloat16 and state["m"].dtype == torch.float32


def test_a_second_derivative_is_refused_by_kernels_and_given_by_the_reference():
    layer, x = made({}), drive(steps=3).requires_grad_()
    with pytest.raises(Refusal, match=r"expected a first derivative; got create_graph=True. .*backend\('reference'\)"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    with ranvier.backend("reference"):
        (first,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), x)[0].isfinite().all()


def test_time_constants_are_log_spaced_and_learnt_inside_their_range():
    assert torch.allclose(ELM(1, 1, 4).tau, torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    learnt = ELM(1, 1, 4, learn_tau=True)
    assert torch.allclose(learnt.tau, torch.tensor([1.001, 10.0, 100.0, 999.999]), rtol=1e-4)
    learnt.tau.sum().backward()
    assert (learnt.raw_tau.grad > 0).all()  # none is stuck at an end
    with torch.no_grad():
        learnt.raw_tau.add_(torch.tensor([-9.0, 9.0, -30.0, 30.0]))
    assert (learnt.tau >= 1).all() and (learnt.tau <= 1000).all()


def test_random_routing_comes_from_its_generator():
    first, second = (ELM(50, 1, 2, routing="random", generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.index, second.index) and len(first.index.unique()) > 20


# The card's own bounds


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_memory_left_alone_decays_exactly(dtype, backend):
    """Bound 1: with the MLP at 0, a relative error below 1e-5 over 1000 steps for every time constant."""
    layer = ELM(1, 1, 100).to(dtype)
    with torch.no_grad():
        layer.out.weight.zero_()
        layer.out.bias.zero_()
        state = {"b": torch.zeros(1, 1, dtype=dtype), "m": torch.ones(1, 100, dtype=dtype)}
        with ranvier.backend(backend):
            _, _, recorded = ranvier.run(layer, torch.zeros(1000, 1, 1, dtype=dtype), state, record=("m",))
    t = torch.arange(1, 1001, dtype=F64)[:, None]
    exact = torch.exp(-t / layer.tau.double())
    normal = exact > 1e5 * torch.finfo(dtype).tiny  # below, no dtype has the digits
    error = (recorded["m"][:, 0].double() / exact - 1).abs()
    assert normal[-1, 50:].all() and error[normal].max() < 1e-5


@pytest.mark.parametrize(("memory", "count"), [(1, 4601), (15, 6827), (100, 54002)])
def test_the_number_of_weights_is_that_of_the_paper(memory, count):
    """Bound 2: 45 branches of 100 synapses, 2 outputs."""
    layer = ELM(1278, 2, memory, branches=45, synapses=100, routing="windows", tau_memory=(1.0, 150.0))
    assert sum(p.numel() for p in layer.parameters()) == count
    assert (layer.index.unique() <= 1278).all() and set(range(1278)) <= set(layer.index.tolist())


# What is refused


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"branches": 4}, r"ELM: expected branches that share the inputs evenly.*got 6 inputs, 4 branches"),
        ({"branches": 2, "synapses": 2}, r"got 6 inputs, 2 branches of 2 synapses"),
        ({"branches": 2, "synapses": 2, "routing": "windows"}, r"windows that cover them all.*3 synapses or more"),
        ({"routing": "window"}, r"ELM.routing: expected one of .*got 'window'. Did you mean 'windows'"),
        ({"activation": "gelu"}, r"ELM.activation: expected one of"),
        ({"version": 3}, r"ELM.version: expected one of \(1, 2\); got 3"),
        ({"memory": 0}, r"ELM.memory: expected a positive number; got 0"),
        ({"dt": 0.0}, r"ELM.dt: expected a positive number; got 0.0"),
        ({"tau_memory": (9.0, 2.0)}, r"ELM.tau_memory: expected the shortest and the longest.*got \(9.0, 2.0\)"),
        ({"tau_memory": (2.0, 2.0), "learn_tau": True}, r"to be learnt they must differ"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused_with_what_to_do(options, text):
    with pytest.raises(Refusal, match=text):
        ELM(6, 2, **options)


@pytest.mark.parametrize("x", [torch.zeros(3, 6), torch.zeros(3, 2, 5), torch.zeros(3, 2, 6, dtype=torch.int64)])
def test_input_that_does_not_fit_is_refused_with_what_to_do(x):
    for layer, run in itertools.product([ELM(6, 2)], [lambda m: m(x), lambda m: ranvier.run(m, x)]):
        with pytest.raises(Refusal, match=r"ELM: expected floating-point \[T, B, 6\], time first; got shape"):
            run(layer)
