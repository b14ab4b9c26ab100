"""The PSN family is its sums over time, restated; what is not causal refuses chunks, by name."""

import copy
import pickle

import pytest
import torch
from torch import nn

import ranvier
from ranvier import PSN, MaskedPSN, Refusal, SlidingPSN
from ranvier.nn.units import parallel_spiking

F64 = torch.float64
STEPS = 9
KINDS = {
    "PSN": lambda: PSN(STEPS),
    "masked": lambda: MaskedPSN(STEPS, 3),
    "half masked": lambda: MaskedPSN(STEPS, 3, masking=0.5),
    "order above steps": lambda: MaskedPSN(STEPS, 12),
    "sliding 1": lambda: SlidingPSN(1),
    "sliding 4": lambda: SlidingPSN(4, exponential=False),
    "sliding 20": lambda: SlidingPSN(20, exponential=False),
}
every = pytest.mark.parametrize("kind", KINDS)
STREAMING = [k for k in KINDS if k not in ("PSN", "half masked")]


def made(kind, dtype=F64):
    torch.manual_seed(3)
    layer = KINDS[kind]().to(dtype)
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.threshold.uniform_(0.2, 0.6)
    return layer


def drive(steps=STEPS, batch=2, dtype=F64):
    return 2 * torch.randn(steps, batch, 3, 2, dtype=dtype, generator=torch.Generator().manual_seed(2))


def weights(layer, steps):
    """W[t, s], what the membrane of step t gets of the input of step s."""
    w = torch.zeros(steps, steps, dtype=F64)
    for t in range(steps):
        for s in range(steps):
            if isinstance(layer, SlidingPSN):
                i = s - t + layer.order - 1
                w[t, s] = layer.weight[i] if s <= t and i >= 0 else 0.0
            elif isinstance(layer, MaskedPSN):
                inside = float(s <= t <= s + layer.order - 1)
                masking = float(layer.masking)
                w[t, s] = (masking * inside + (1 - masking)) * layer.weight[t, s]
            else:
                w[t, s] = layer.weight[t, s]
    return w


@every
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_membranes_and_spikes_are_the_sums_over_time(kind, backend):
    layer, x = made(kind), drive()
    with torch.no_grad(), ranvier.backend(backend):
        z, _, recorded = ranvier.run(layer, x, record=("spikes", "v"))
        v = torch.einsum("ts,sbij->tbij", weights(layer, STEPS), x)
        fired = (v - layer.threshold.reshape(-1, 1, 1, 1) >= 0).to(F64)
    assert torch.allclose(recorded["v"], v, rtol=1e-12, atol=1e-12)
    assert torch.equal(z, fired) and torch.equal(recorded["spikes"], z) and 0.1 < z.mean() < 0.9


@every
def test_gradients_agree_with_finite_differences_when_the_spike_is_smooth(kind, differentiates, monkeypatch):
    monkeypatch.setattr(parallel_spiking, "spike", lambda u, surrogate: surrogate.primitive(u))
    layer, x = made(kind), drive(batch=1)[..., :1]
    with ranvier.backend("reference"):
        assert differentiates(layer, x)
        if kind.startswith("sliding"):
            assert differentiates(layer, x, {"past": torch.rand(1, layer.order - 1, 3, 1, dtype=F64)})


@every
def test_kernels_and_products_give_the_same_numbers_and_gradients(kind, everything, close):
    layer, x = made(kind), drive()
    with ranvier.backend("reference"):
        expected = everything(layer, x)
    assert close(everything(layer, x), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("steps", [1, 15, 16, 17, 19, 20, 38, 100])
@pytest.mark.parametrize("order", [1, 2, 8, 9, 17, 18, 30])
def test_any_number_of_steps_and_any_order(order, steps, in_chunks, close):
    layer = SlidingPSN(order, exponential=False).double()
    with torch.no_grad():
        layer.threshold.fill_(0.1)
        x = torch.randn(steps, 2, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
        for backend in ("reference", "fused"):
            with ranvier.backend(backend):
                z, state, recorded = ranvier.run(layer, x, record=("v",))
                v = torch.einsum("ts,sbi->tbi", weights(layer, steps), x)
                assert torch.allclose(recorded["v"], v, rtol=1e-12, atol=1e-12)
                assert close(in_chunks(layer, x, steps // 3, 0, steps - steps // 3), {"y": z, **state})


@pytest.mark.parametrize("kind", STREAMING)
@pytest.mark.parametrize("sizes", [(1, 0, 8), (4, 5), (1,) * 9], ids=str)
def test_chunks_give_the_whole(kind, sizes, in_chunks):
    layer, x = made(kind), drive()
    with torch.no_grad():
        z, state = ranvier.run(layer, x)
        found = in_chunks(layer, x, *sizes)
    assert torch.equal(found.pop("y"), z) and all(torch.equal(found[k], state[k]) for k in state)


def test_chunks_of_a_kernel_give_the_bits_of_the_whole_in_float32(in_chunks):
    layer, x = SlidingPSN(5, exponential=False), torch.randn(40, 3, 50)
    with torch.no_grad():
        layer.threshold.fill_(0.1)
        whole, _, recorded = ranvier.run(layer, x, record=("v",))
        first, state, before = ranvier.run(layer, x[:13], record=("v",))
        second, _, later = ranvier.run(layer, x[13:], state, record=("v",))
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(torch.cat([before["v"], later["v"]]), recorded["v"])


def test_products_in_chunks_give_the_whole_but_for_ties_in_float32(in_chunks):
    layer, x = SlidingPSN(12, exponential=False), torch.randn(40, 3, 50)
    with torch.no_grad():
        z, _, recorded = ranvier.run(layer, x, record=("v",))
        sure = (recorded["v"] - layer.threshold).abs() > 1e-5
        assert torch.equal(in_chunks(layer, x, 13, 27)["y"][sure], z[sure]) and sure.double().mean() > 0.99


@pytest.mark.parametrize("kind", STREAMING)
@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (1, 2), (9, 0)])
def test_none_or_one_of_steps_and_an_empty_batch(kind, steps, batch, everything, close):
    layer, x = made(kind), drive(steps, batch)
    with ranvier.backend("reference"):
        expected = everything(layer, x)
    assert close(everything(layer, x), expected, rtol=1e-10, atol=1e-12)
    assert expected["y"].shape == x.shape


def test_a_psn_takes_an_empty_batch():
    assert PSN(STEPS)(drive(batch=0, dtype=torch.float32)).shape == (STEPS, 0, 3, 2)


def test_one_step_is_a_weight_and_a_threshold():
    layer = PSN(1)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        assert layer(torch.tensor([[[1.9, 2.0]]])).tolist() == [[[0.0, 1.0]]]


def test_progressive_masking_goes_from_a_psn_to_a_causal_neuron():
    layer, x = MaskedPSN(STEPS, 3, masking=0.0), drive(dtype=torch.float32)
    plain = PSN(STEPS)
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "masking"})
    assert torch.equal(layer(x), plain(x))
    found = []
    for epoch in range(17):
        layer.anneal(epoch / 16)
        found.append(float(layer.masking))
    assert found == [0.0, 0.5, *[1.0] * 15]  # the authors' min(1, 8 epoch / (epochs - 1))
    v = ranvier.run(layer, x, record=("v",))[2]["v"]
    later = x.clone()
    later[5:] += 1
    assert torch.equal(ranvier.run(layer, later, record=("v",))[2]["v"][:5], v[:5])


def test_initial_values_are_those_of_the_paper():
    layer = PSN(400)
    assert layer.weight.abs().max() <= 400**-0.5 and layer.weight.std().item() == pytest.approx(
        (3 * 400) ** -0.5, rel=0.02
    )
    assert (layer.threshold == 1).all() and (MaskedPSN(4, 2).threshold == 1).all()
    assert SlidingPSN(4).weight.tolist() == [0.125, 0.25, 0.5, 1.0] and SlidingPSN(4).threshold == 1
    assert SlidingPSN(400, exponential=False).weight.abs().max() <= 400**-0.5


@every
def test_weights_loaded_into_another_neuron_and_pickled_ones_give_the_same(kind):
    layer, x = made(kind), drive()
    other = KINDS[kind]().double()
    other.load_state_dict(layer.state_dict())
    for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), layer(x))


def test_the_masking_is_saved_with_the_weights():
    layer = MaskedPSN(4, 2)
    layer.load_state_dict(MaskedPSN(4, 2, masking=0.25).state_dict())
    assert layer.masking == 0.25


def test_a_state_survives_a_file(tmp_path):
    layer, x = made("sliding 4"), drive()
    _, state = ranvier.run(layer, x)
    ranvier.save({k: v.detach() for k, v in state.items()}, tmp_path / "state.safetensors")
    kept = ranvier.load(tmp_path / "state.safetensors")
    assert torch.equal(ranvier.run(layer, x, kept)[0], ranvier.run(layer, x, state)[0])


def test_another_surrogate_is_the_one_that_is_used():
    layer, x = SlidingPSN(2), torch.zeros(1, 1, 1, requires_grad=True)
    layer.surrogate = ranvier.Rectangle(width=4.0)
    assert torch.autograd.grad(layer(x).sum(), x)[0].item() == 0.25


@every
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_neuron_equals_the_eager_one(kind, backend, same_when_compiled):
    assert same_when_compiled(made(kind), drive(), None, backend)


def test_a_compiled_sliding_neuron_streams(same_when_compiled):
    layer, x = made("sliding 4"), drive()
    state = {k: v.detach() for k, v in ranvier.run(layer, x)[1].items()}
    assert same_when_compiled(layer, x, state, "aot_eager")


@every
def test_autocast_and_sixteen_bit_input_leave_the_membrane_in_float32(kind):
    layer, x = made(kind, torch.float32), drive(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        _, _, under = ranvier.run(layer, x, record=("v",))
    assert torch.equal(under["v"], ranvier.run(layer, x, record=("v",))[2]["v"])
    z, _, recorded = ranvier.run(layer, x.bfloat16(), record=("v",))
    _, _, wide = ranvier.run(layer, x.bfloat16().float(), record=("v",))
    assert z.dtype == torch.bfloat16 and torch.equal(recorded["v"], wide["v"])


# What is refused


def test_a_psn_refuses_chunks_by_name():
    net = nn.Sequential(nn.Linear(2, 2), PSN(STEPS), ranvier.LIF())
    x = torch.randn(STEPS, 1, 2)
    _, state = ranvier.run(net, x)
    text = (
        r"1 \(PSN\): expected a whole sequence, since it is not causal in time; got a chunk with a state .* SlidingPSN"
    )
    with pytest.raises(Refusal, match=text):
        ranvier.run(net, x, state)
    with pytest.raises(Refusal, match=r"^PSN: expected a whole sequence"):
        ranvier.run(PSN(STEPS), x, {})


@pytest.mark.parametrize("steps", [0, STEPS - 1, STEPS + 1])
def test_a_psn_refuses_another_number_of_steps(steps):
    with pytest.raises(Refusal, match=rf"PSN: expected a whole sequence of {STEPS} steps; got {steps}\. Make PSN"):
        PSN(STEPS)(torch.zeros(steps, 1, 2))


def test_a_masked_psn_refuses_chunks_until_it_is_masked_and_more_steps_than_it_has():
    layer, x = MaskedPSN(STEPS, 3, masking=0.9), torch.zeros(STEPS, 1, 2)
    text = r"MaskedPSN: expected a whole sequence of 9 steps, since it is not causal .* got {}\. .*layer.anneal\(1.0\)"
    with pytest.raises(Refusal, match=text.format("4 steps")):
        layer(x[:4])
    _, state = ranvier.run(layer, x)
    with pytest.raises(Refusal, match=text.format("a chunk with a state to continue from")):
        ranvier.run(layer, x, state)
    layer.anneal(1.0)
    _, state = ranvier.run(layer, x[:4])
    with pytest.raises(Refusal, match=r"MaskedPSN: expected 9 steps in all; got 10\. Begin a new sequence"):
        ranvier.run(layer, x[:6], state)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PSN(0), r"PSN.steps: expected 1 or more; got 0"),
        (lambda: MaskedPSN(4, 0), r"MaskedPSN.order: expected 1 or more; got 0"),
        (lambda: SlidingPSN(0), r"SlidingPSN.order: expected 1 or more; got 0"),
        (
            lambda: MaskedPSN(4, 2, masking=1.5),
            r"MaskedPSN.masking: expected a number from 0 .* got 1.5\. Write layer.an",
        ),
        (lambda: MaskedPSN(4, 2).anneal(-0.1), r"MaskedPSN.masking: .* got -0.8"),
    ],
)
def test_numbers_out_of_bounds_are_refused(make, text):
    with pytest.raises(Refusal, match=text):
        make()


@every
@pytest.mark.parametrize("x", [torch.zeros(STEPS, 2), torch.zeros(STEPS, 2, 2, dtype=torch.int64)])
def test_input_that_does_not_fit_is_refused_with_what_to_do(kind, x):
    with pytest.raises(Refusal, match=r"PSN: expected floating-point \[T, B, ...features\], time first; got shape"):
        KINDS[kind]()(x)
