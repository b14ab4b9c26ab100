"""A run in chunks is the whole run: same bits, same end, same gradient; and ragged batches are their sequences alone."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ranvier
from ranvier.core.discovery import discover

NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
DECODERS = {
    "rate": ranvier.RateDecoder,
    "last": ranvier.LastDecoder,
    "max": ranvier.MaxDecoder,
    "first spike": ranvier.FirstSpikeDecoder,
}
CODERS = {
    "delays": lambda: ranvier.DelayLine([0, 1, 5]),
    "no delay": lambda: ranvier.DelayLine([0]),
    "delta encoder": lambda: ranvier.DeltaEncoder(0.1),
    "delta decoder": lambda: ranvier.DeltaDecoder(0.1),
    **DECODERS,
}
LIKE_LIF = {
    "lif": ranvier.LIF,
    "lif exact, subtract": lambda: ranvier.LIF(discretisation="exact", reset_mode="subtract"),
    **{f"recurrent {name}": lambda n=n: ranvier.Recurrent(n(), nn.Linear(3, 3)) for name, n in NEURONS.items()},
}
LAYERS = NEURONS | LIKE_LIF | CODERS
SPIKES_ONLY = ("delta decoder", "first spike")
layers = pytest.mark.parametrize("name", LAYERS)


def sequence(name, steps, batch, seed=0, dtype=torch.float32):
    x = 3 * torch.randn(steps, batch, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x.sign() * (x.abs() > 2) if name == "delta decoder" else (x > 2).to(dtype) if name in SPIKES_ONLY else x


def run(layer, x):
    """A run whose random numbers are the same every time."""
    torch.manual_seed(1)
    return ranvier.run(layer, x)


def chunked(layer, x, sizes, join=True):
    torch.manual_seed(1)
    outputs, state = [], None
    for chunk in x.split(sizes):
        y, state = ranvier.run(layer, chunk, state)
        outputs.append(y)
    return (torch.cat(outputs) if join else outputs[-1]), state


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@layers
@settings(max_examples=12)
@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6), batch=st.integers(0, 3), seed=st.integers(0, 99))
def test_chunks_give_the_bits_of_the_whole(name, sizes, batch, seed):
    torch.manual_seed(0)
    layer, x = LAYERS[name](), sequence(name, sum(sizes), batch, seed)
    with torch.no_grad():
        whole, end = run(layer, x)
        parts, chunk_end = chunked(layer, x, sizes, join=name not in DECODERS)
    assert torch.equal(whole, parts) and same(end, chunk_end)
    torch.manual_seed(1)
    assert torch.equal(whole, layer(x))


@pytest.mark.parametrize("name", ["lif", "adaptive-lif", "recurrent cuba-lif", *CODERS])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_chunks_give_the_bits_of_the_whole_in_every_dtype(name, dtype):
    layer, x = LAYERS[name]().to(dtype), sequence(name, 9, 2).to(dtype)
    with torch.no_grad():
        whole, end = run(layer, x)
        parts, chunk_end = chunked(layer, x, [4, 1, 4], join=name not in DECODERS)
    assert torch.equal(whole, parts) and same(end, chunk_end)
    assert whole.dtype == dtype
    assert {v.dtype for v in end.values()} == {torch.float64 if dtype == torch.float64 else torch.float32}


@layers
def test_an_empty_sequence_ends_where_it_began(name):
    layer, x = LAYERS[name](), sequence(name, 5, 2)
    _, state = ranvier.run(layer, x)
    y, after = ranvier.run(layer, x[:0], state)
    assert same(state, after)
    assert y.shape == ((2, 3) if name in DECODERS else (0, *layer(x).shape[1:]))


@layers
def test_an_empty_batch_runs(name):
    layer = LAYERS[name]()
    y, state = ranvier.run(layer, torch.zeros(4, 0, 3))
    assert y.shape[0 if name in DECODERS else 1] == 0 and all(len(v) == 0 for v in state.values())


@pytest.mark.parametrize("name", [n for n in LAYERS if n != "delta encoder"])
def test_the_gradient_through_the_state_is_that_of_the_whole(name, reference):
    layer, x = LAYERS[name]().double(), sequence(name, 8, 2, dtype=torch.float64).requires_grad_()
    weight = torch.randn_like(layer(x))
    leaves = [x, *layer.parameters()]

    def gradients(y, state):
        loss = (y * weight).sum() + sum(v.sin().sum() for v in state.values() if v.is_floating_point())
        return torch.autograd.grad(loss, leaves)

    whole = gradients(*run(layer, x))
    parts = gradients(*chunked(layer, x, [3, 1, 4], join=name not in DECODERS))
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(whole, parts, strict=True))
    assert whole[0].abs().sum() > 0


@pytest.mark.parametrize("name", DECODERS)
@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=3),
)
def test_a_decoder_ignores_what_lies_past_the_end(name, lengths, sizes):
    """Every sequence alone and unpadded gives the same bits, even when the padding is NaN, in one run or in chunks."""
    lengths = torch.tensor(lengths)
    steps = max(int(lengths.max()), sum(sizes))
    x = sequence(name, steps, len(lengths))
    past = torch.arange(steps)[:, None] >= lengths
    alone = torch.cat([DECODERS[name]()(x[:n, i : i + 1]) for i, n in enumerate(lengths)])
    x[past] = torch.nan
    y, _ = ranvier.run(DECODERS[name](), x, lengths=lengths)
    assert torch.equal(y, alone)
    state, starts = None, [0, *itertools.accumulate(sizes[:-1]), steps]
    for start, stop in itertools.pairwise(starts):
        y, state = ranvier.run(DECODERS[name](), x[start:stop], state, lengths=lengths - start)
    assert torch.equal(y, alone)


@pytest.mark.parametrize("name", DECODERS)
def test_no_gradient_reaches_what_lies_past_the_end(name):
    lengths, past = torch.tensor([3, 5]), torch.arange(6)[:, None] >= torch.tensor([3, 5])
    x = sequence(name, 6, 2)
    x[past] = torch.nan
    x.requires_grad_()
    ranvier.run(DECODERS[name](), x, lengths=lengths)[0].square().sum().backward()
    assert (x.grad[past] == 0).all() and x.grad[~past].isfinite().all() and x.grad.any()


def test_a_whole_network_with_lengths_is_its_sequences_alone():
    net = nn.Sequential(
        ranvier.Recurrent(ranvier.CuBaLIF(), nn.Linear(3, 3)), ranvier.LeakyIntegrator(), ranvier.RateDecoder()
    )
    x, lengths = sequence("", 9, 4).double(), torch.tensor([9, 1, 4, 0])
    net.double()
    y, _ = ranvier.run(net, x, lengths=lengths)
    for i, n in enumerate(lengths):
        assert torch.allclose(y[i], net(x[:n, i : i + 1])[0], rtol=1e-12)


@pytest.mark.parametrize("wrong", [torch.tensor(3), torch.tensor([3]), torch.tensor([1, 2, 3]), torch.ones(2, 1)])
def test_lengths_of_another_batch_are_refused(wrong):
    with pytest.raises(ranvier.Refusal, match=r"lengths: expected one number of steps for each of 2 sequences"):
        ranvier.run(ranvier.RateDecoder(), torch.zeros(4, 2, 3), lengths=wrong)


def test_after_an_encoder_every_sequence_has_the_encoders_steps():
    net = nn.Sequential(ranvier.Direct(4), ranvier.LeakyIntegrator(), ranvier.LastDecoder())
    x = torch.rand(1, 2, 3)
    assert torch.equal(ranvier.run(net, x, lengths=torch.tensor([1, 1]))[0], net(x))
