"""An AMSU is its equations, restated; its bounds are those of the card."""

import copy
import math
import pickle

import pytest
import torch

import ranvier
from ranvier import AMSU, Refusal
from ranvier.nn.units import astrocyte

F64 = torch.float64
CASES = {
    "one each": {},
    "linear": {"linear": True},
    "groups": {"astrocytes": 3},
    "linear groups": {"astrocytes": 2, "linear": True},
    "one for all": {"astrocytes": 1, "decay": 0.9, "threshold": 0.5, "gain": 0.5, "bias": -0.2, "tau": (3.0, 3.0)},
}
every = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def made(options, features=6):
    torch.manual_seed(4)
    layer = AMSU(features, **options).double()
    with torch.no_grad():
        for name in ("k_g", "k_h", "w_z", "w_x"):
            p = getattr(layer, name)
            p.add_(0.3 * torch.randn_like(p))
        layer.log_tau.add_(0.2 * torch.randn_like(layer.log_tau))
    return layer


def drive(steps=14, batch=2, features=6):
    return 0.7 + torch.randn(steps, batch, features, dtype=F64, generator=torch.Generator().manual_seed(2))


def restated(layer, x):
    """The card's equations, one sample and one neuron at a time."""
    each = layer.features // layer.astrocytes
    p = {k: v.tolist() for k, v in layer.named_parameters()}
    spikes, membranes, astrocytes = (torch.zeros(*x.shape[:2], n, dtype=F64) for n in (6, 6, layer.astrocytes))
    for n in range(x.shape[1]):
        v, s, c = [0.0] * 6, [0.0] * 6, [0.0] * layer.astrocytes
        for t in range(len(x)):
            given = x[t, n].tolist()
            seen = given if layer.linear else s
            for k in range(layer.astrocytes):
                a = math.exp(-1 / math.exp(p["log_tau"][k]))
                drive = [p["w_z"][i] * seen[i] + p["w_x"][i] * given[i] for i in range(k * each, (k + 1) * each)]
                c[k] = a * c[k] + (1 - a) * sum(drive) / each
            for i in range(6):
                slow = c[i // each]
                kept = v[i] if layer.linear else v[i] * (1 - s[i])
                v[i] = layer.decay * kept + (1 + p["k_g"][i] * math.tanh(slow)) * given[i] + p["k_h"][i] * slow
            s = [float(u >= layer.threshold) for u in v]
            spikes[t, n], membranes[t, n], astrocytes[t, n] = (torch.tensor(q, dtype=F64) for q in (s, v, c))
    return {"spikes": spikes, "v": membranes, "c": astrocytes}


@every
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_spikes_membranes_and_astrocytes_are_those_of_the_equations(options, backend, close):
    layer, x = made(options), drive()
    with torch.no_grad(), ranvier.backend(backend):
        z, state, recorded = ranvier.run(layer, x, record=("spikes", "v", "c"))
    assert close(recorded, restated(layer, x), rtol=1e-10, atol=1e-11)
    assert torch.equal(z, recorded["spikes"]) and 0.1 < z.mean() < 0.9
    assert all(torch.equal(recorded[k][-1], state[k]) for k in ("v", "c"))


@every
def test_gradients_agree_with_finite_differences_when_the_spike_is_smooth(options, differentiates, monkeypatch):
    monkeypatch.setattr(astrocyte, "spike", lambda u, surrogate: surrogate.primitive(u))
    layer, x = made(options), drive(steps=3, batch=1)
    state = {"v": torch.rand(1, 6, dtype=F64), "c": torch.rand(1, layer.astrocytes, dtype=F64)}
    with ranvier.backend("reference"):
        assert differentiates(layer, x, state)


@every
@pytest.mark.parametrize("stateful", [False, True])
def test_kernels_give_the_numbers_and_gradients_of_the_loop(options, stateful, everything, close):
    layer, x = made(options), drive(steps=30)
    state = {"v": torch.rand(2, 6, dtype=F64), "c": torch.rand(2, layer.astrocytes, dtype=F64)} if stateful else None
    with ranvier.backend("reference"):
        expected = everything(layer, x, state)
    assert close(everything(layer, x, state), expected, rtol=1e-9, atol=1e-10)


@every
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_chunks_give_the_bits_of_the_whole(options, backend, in_chunks):
    layer, x = made(options).float(), drive().float()
    with torch.no_grad(), ranvier.backend(backend):
        z, state = ranvier.run(layer, x)
        for sizes in ((1, 0, 13), (8, 6), (1,) * 14):
            found = in_chunks(layer, x, *sizes)
            assert all(torch.equal(found[k], v) for k, v in {"y": z, **state}.items())


@every
@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (1, 2), (3, 0)])
def test_none_or_one_of_steps_and_an_empty_batch(options, steps, batch, everything, close):
    layer, x = made(options), drive(steps, batch)
    with ranvier.backend("reference"):
        expected = everything(layer, x)
    assert close(everything(layer, x), expected, rtol=1e-10, atol=1e-12)
    assert expected["y"].shape == x.shape and expected["course c"].shape == (steps, batch, layer.astrocytes)


@every
def test_weights_loaded_into_another_unit_and_pickled_ones_give_the_same(options):
    layer, x = made(options), drive()
    other = AMSU(6, **options).double()
    other.load_state_dict(layer.state_dict())
    for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), layer(x))


def test_a_state_survives_a_file(tmp_path):
    layer, x = made({}), drive()
    _, state = ranvier.run(layer, x)
    ranvier.save({k: v.detach() for k, v in state.items()}, tmp_path / "state.safetensors")
    kept = ranvier.load(tmp_path / "state.safetensors")
    assert torch.equal(ranvier.run(layer, x, kept)[0], ranvier.run(layer, x, state)[0])


@every
def test_a_compiled_unit_equals_the_eager_one(options, same_when_compiled):
    layer, x = made(options), drive(steps=4)
    assert same_when_compiled(layer, x, None, "aot_eager")
    state = {k: v.detach() for k, v in ranvier.run(layer, x)[1].items()}
    assert same_when_compiled(layer, x, state, "aot_eager")


@every
def test_autocast_and_sixteen_bit_input_leave_the_state_in_float32(options):
    layer, x = made(options).float(), drive().float()
    with torch.autocast("cpu", torch.bfloat16):
        z, state = ranvier.run(layer, x)
    expected, other = ranvier.run(layer, x)
    assert torch.equal(z, expected) and all(torch.equal(state[k], other[k]) for k in state)
    z, state = ranvier.run(layer, x.bfloat16())
    assert z.dtype == torch.bfloat16 and state["c"].dtype == torch.float32


def test_time_constants_start_log_spaced():
    assert torch.allclose(AMSU(3).log_tau.exp(), torch.tensor([4.0, 64.0, 1024.0]))


def test_without_gain_and_bias_the_astrocyte_brings_nothing():
    layer, x = AMSU(6, gain=0.0, bias=0.0), drive().float()
    beta = 0.5  # v = beta v + x is a LIF neuron of tau = 2 whose input is x / (1 - beta)
    assert torch.equal(layer(x), ranvier.LIF(tau=2.0)(x / (1 - beta)))


# The card's own bounds


@pytest.mark.parametrize("astrocytes", [16, 4])
def test_the_linear_unit_step_by_step_is_the_scan_of_the_whole(astrocytes):
    """Bound 1: to 1e-4 over 512 tokens."""
    layer = AMSU(16, astrocytes, linear=True)
    x = torch.randn(512, 2, 16)
    with torch.no_grad():
        _, state, recorded = ranvier.run(layer, x, record=("v", "c"))
        with ranvier.backend("reference"):
            steps, later = [], None
            for t in range(512):
                _, later, course = ranvier.run(layer, x[t : t + 1], later, record=("v", "c"))
                steps.append(course)
    for k in ("v", "c"):
        assert (torch.cat([s[k] for s in steps]) - recorded[k]).abs().max() < 1e-4
        assert (later[k] - state[k]).abs().max() < 1e-4


@every
def test_the_state_does_not_grow_with_the_past(options):
    """Bound 2: as many bytes after 4096 tokens as after 128."""
    layer = AMSU(6, **options)
    sizes = []
    for steps in (128, 4096):
        with torch.no_grad():
            _, state = ranvier.run(layer, torch.randn(steps, 1, 6))
        sizes.append(sum(v.untyped_storage().nbytes() for v in state.values()))
    assert sizes[0] == sizes[1] == 4 * (6 + layer.astrocytes)


# What is refused


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"astrocytes": 4}, r"AMSU: expected astrocytes that share the neurons evenly; got 6 neurons, 4 astrocytes"),
        ({"astrocytes": 0}, r"got 6 neurons, 0 astrocytes"),
        ({"tau": (9.0, 4.0)}, r"AMSU.tau: expected 0 < shortest <= longest; got \(9.0, 4.0\)"),
        ({"decay": 1.5}, r"AMSU.decay: expected a number in \[0, 1\]; got 1.5"),
        ({"threshold": 0.0}, r"AMSU.threshold: expected a number above 0; got 0.0"),
    ],
    ids=str,
)
def test_numbers_out_of_bounds_are_refused(options, text):
    with pytest.raises(Refusal, match=text):
        AMSU(6, **options)


@pytest.mark.parametrize("x", [torch.zeros(3, 6), torch.zeros(3, 2, 5), torch.zeros(3, 2, 6, dtype=torch.int64)])
def test_input_that_does_not_fit_is_refused_with_what_to_do(x):
    with pytest.raises(Refusal, match=r"AMSU: expected floating-point \[T, B, 6\], time first; got shape"):
        AMSU(6)(x)
