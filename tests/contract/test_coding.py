"""Encoders and decoders: what their equations say, reproducibly, and the gradients that they promise."""

import inspect
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ranvier
from ranvier.core.checks import Refusal

ENCODERS = [ranvier.Direct, ranvier.LatencyEncoder, ranvier.RateEncoder]
DECODERS = [ranvier.RateDecoder, ranvier.LastDecoder, ranvier.MaxDecoder, ranvier.FirstSpikeDecoder]
DELTA = [ranvier.DeltaEncoder, ranvier.DeltaDecoder]
IMAGE = torch.rand(1, 4, 5, 6, generator=torch.Generator().manual_seed(0))

encoders = pytest.mark.parametrize("cls", ENCODERS)
decoders = pytest.mark.parametrize("cls", DECODERS)


# encoders of a static input


@encoders
def test_an_encoder_turns_one_step_into_many(cls):
    assert cls(7)(IMAGE).shape == (7, 4, 5, 6)
    assert cls(7)(IMAGE[:, :0]).shape == (7, 0, 5, 6)
    assert cls(1)(IMAGE).shape == (1, 4, 5, 6)


@encoders
@pytest.mark.parametrize("wrong", [torch.rand(3, 4, 5), torch.rand(0, 4, 5), torch.rand(1)])
def test_an_encoder_refuses_what_is_not_one_step(cls, wrong):
    with pytest.raises(
        Refusal, match=rf"{cls.__name__}: expected a static input as a single step \[1, B, \.\.\.\]; got.*unsqueeze"
    ):
        cls(7)(wrong)


@encoders
@pytest.mark.parametrize("steps", [0, -1])
def test_an_encoder_refuses_no_steps(cls, steps):
    with pytest.raises(Refusal, match=rf"{cls.__name__}: expected 1 step or more; got {steps}\."):
        cls(steps)


def test_direct_repeats_without_copying_and_sums_the_gradient():
    x = IMAGE.clone().requires_grad_()
    y = ranvier.Direct(5)(x)
    assert all(torch.equal(y_t, x[0]) for y_t in y) and y.data_ptr() == x.data_ptr()
    weight = torch.rand(5, 4, 5, 6)
    (y * weight).sum().backward()
    assert torch.allclose(x.grad[0], weight.sum(0))


@given(st.integers(1, 12), st.lists(st.floats(-0.5, 1.5, width=32), min_size=1, max_size=5))
def test_latency_fires_once_the_larger_the_earlier(steps, values):
    x = torch.tensor(values)
    z = ranvier.LatencyEncoder(steps)(x.reshape(1, 1, -1)).squeeze(1)
    assert z.shape == (steps, len(values)) and ((z == 0) | (z == 1)).all()
    assert torch.equal(z.sum(0), (x > 0).float())
    time = z.argmax(0)
    for i, a in enumerate(values):
        if a > 0:
            assert abs(time[i] - (1 - min(a, 1)) * (steps - 1)) <= 0.5 + 1e-5
        for j, b in enumerate(values):
            assert not (a >= b > 0) or time[i] <= time[j]


def test_latency_and_first_spike_decoder_agree_about_time():
    x = torch.tensor([[[1.0, 0.75, 0.5, 0.0, -3.0, 2.0]]])
    z = ranvier.LatencyEncoder(5)(x)
    assert ranvier.FirstSpikeDecoder()(z).tolist() == [[0.0, 1.0, 2.0, 5.0, 5.0, 0.0]]
    assert not ranvier.LatencyEncoder(5)(x.requires_grad_()).requires_grad


# rate coding


def test_a_rate_is_the_probability_of_a_spike_at_every_step():
    p = torch.tensor([-0.5, 0.0, 0.1, 0.5, 0.9, 1.0, 1.5])
    z = ranvier.RateEncoder(2000, seed=0)(p.expand(1, 50, 7))
    n = 2000 * 50
    expected = p.clamp(0, 1)
    assert ((z == 0) | (z == 1)).all()
    assert ((z.mean((0, 1)) - expected).abs() <= 4 * (expected * (1 - expected) / n).sqrt() + 1e-7).all()
    lag = ((z[1:, :, 3] - 0.5) * (z[:-1, :, 3] - 0.5)).mean() / 0.25
    across = ((z[:, 1:, 3] - 0.5) * (z[:, :-1, 3] - 0.5)).mean() / 0.25
    assert abs(lag) < 4 * n**-0.5 and abs(across) < 4 * n**-0.5  # over time and over the batch


def test_the_same_seed_gives_the_same_spikes_whatever_torch_drew_before():
    first = ranvier.RateEncoder(5, seed=3)(IMAGE)
    torch.rand(7)
    assert torch.equal(ranvier.RateEncoder(5, seed=3)(IMAGE), first)
    assert not torch.equal(ranvier.RateEncoder(5, seed=300)(IMAGE), first)


def test_without_a_seed_torch_manual_seed_decides_and_every_call_differs():
    encoder = ranvier.RateEncoder(5)
    torch.manual_seed(1)
    first, second = encoder(IMAGE), encoder(IMAGE)
    torch.manual_seed(1)
    assert torch.equal(encoder(IMAGE), first) and not torch.equal(first, second)


@pytest.mark.parametrize("seed", [None, 3, -1, 2**40])
def test_a_continued_run_goes_on_in_the_same_stream(seed):
    whole, parts, state = ranvier.RateEncoder(12, seed), ranvier.RateEncoder(4, seed), None
    torch.manual_seed(1)
    expected, end = ranvier.run(whole, IMAGE)
    torch.manual_seed(1)
    for k in range(3):
        y, state = ranvier.run(parts, IMAGE, state)
        assert torch.equal(y, expected[4 * k : 4 * k + 4])
    assert state.keys() == end.keys() and all(torch.equal(state[k], v) for k, v in end.items())
    assert all(len(v) == 4 and v.dtype == torch.int64 for v in state.values())


def test_the_gradient_of_a_rate_is_that_of_its_mean():
    x = IMAGE.clone().requires_grad_()
    weight = torch.rand(5, 4, 5, 6)
    (ranvier.RateEncoder(5, seed=0)(x) * weight).sum().backward()
    assert torch.allclose(x.grad[0], weight.sum(0))


def test_a_rate_is_read_back_from_its_spikes():
    x = torch.rand(1, 3, 4)
    net = nn.Sequential(ranvier.RateEncoder(4000, seed=0), ranvier.RateDecoder())
    assert torch.allclose(net(x), x[0], atol=0.04)


# decoders of a sequence


def test_decoders_by_hand():
    x = torch.tensor([0.0, 1.0, 0.0, 1.0]).reshape(4, 1, 1)
    values = {cls: cls()(x).item() for cls in DECODERS}
    assert values == {
        ranvier.RateDecoder: 0.5,
        ranvier.LastDecoder: 1.0,
        ranvier.MaxDecoder: 1.0,
        ranvier.FirstSpikeDecoder: 1.0,
    }
    silent = {cls: cls()(0 * x).item() for cls in DECODERS}
    assert silent == {
        ranvier.RateDecoder: 0.0,
        ranvier.LastDecoder: 0.0,
        ranvier.MaxDecoder: 0.0,
        ranvier.FirstSpikeDecoder: 4.0,
    }


@decoders
def test_a_decoder_equals_torchs_reduction_with_its_gradient(cls):
    x = torch.randn(6, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    by_torch = {
        ranvier.RateDecoder: lambda x: x.mean(0),
        ranvier.LastDecoder: lambda x: x[-1],
        ranvier.MaxDecoder: lambda x: x.amax(0),
        ranvier.FirstSpikeDecoder: lambda x: (1 - x).cumprod(0).sum(0),
    }[cls]
    y = cls()(x)
    assert y.shape == (2, 3, 4) and torch.allclose(y, by_torch(x), rtol=1e-12)
    weight = torch.rand_like(y)
    a, b = (torch.autograd.grad((out * weight).sum(), x)[0] for out in (y, by_torch(x)))
    assert torch.allclose(a, b, rtol=1e-10)


def test_an_earlier_first_spike_lowers_its_time():
    """The gradient says so at every step at which it still waits."""
    z = torch.tensor([0.0, 0.0, 1.0, 0.0]).reshape(4, 1, 1).requires_grad_()
    ranvier.FirstSpikeDecoder()(z).backward()
    assert z.grad.flatten().tolist() == [-2.0, -1.0, -2.0, 0.0]


@decoders
@pytest.mark.parametrize(
    ("x", "text"),
    [
        (torch.zeros(4, 3), r"expected \[T, B, \.\.\.features\], time first; got shape \(4, 3\)"),
        (torch.zeros(4, 2, 3, dtype=torch.int64), r"expected floating-point input; got torch\.int64\. Convert it"),
        (torch.zeros(4, 2, 3, dtype=torch.bool), r"expected floating-point input; got torch\.bool\. Convert it"),
    ],
)
def test_a_decoder_refuses_what_it_would_misread(cls, x, text):
    with pytest.raises(Refusal, match=rf"{cls.__name__}: {text}"):
        cls()(x)


# delta coding


signals = st.lists(st.floats(-0.9, 0.9), min_size=1, max_size=40)
thresholds = st.floats(0.01, 10)


@given(signals, thresholds, st.booleans())
def test_a_slow_signal_is_followed_to_within_a_threshold(moves, threshold, double):
    """Slow: it moves by less than a threshold a step, from 0."""
    dtype = torch.float64 if double else torch.float32
    x = (threshold * torch.tensor(moves, dtype=torch.float64).cumsum(0)).to(dtype).reshape(-1, 1, 1)
    z = ranvier.DeltaEncoder(threshold)(x)
    y = ranvier.DeltaDecoder(threshold)(z)
    assert z.unique().tolist() in ([-1.0, 0.0, 1.0], [-1.0, 0.0], [0.0, 1.0], [0.0], [1.0], [-1.0], [-1.0, 1.0])
    assert ((x - y).abs() < threshold).all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), thresholds)
def test_delta_coding_is_its_equation(values, threshold):
    r, expected, levels = 0, [], []
    for value in values:
        moved = value - threshold * r
        z = (moved > 0) - (moved < 0) if abs(moved) >= threshold else 0
        r += z
        expected.append(z)
        levels.append(threshold * r)
    x = torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)
    z, state = ranvier.run(ranvier.DeltaEncoder(threshold), x)
    assert z.flatten().tolist() == expected and state["count"].item() == r
    assert ranvier.DeltaDecoder(threshold)(z).flatten().tolist() == levels


def test_a_level_does_not_drift_over_a_long_run():
    up = torch.ones(100_000, 1, 1)
    assert torch.equal(ranvier.DeltaDecoder(0.1)(up)[-1], torch.tensor([[10_000.0]]))


def test_a_move_of_exactly_a_threshold_is_a_spike():
    x = torch.tensor([0.5, 1.0, 0.5, 0.25]).reshape(4, 1, 1)
    assert ranvier.DeltaEncoder(0.5)(x).flatten().tolist() == [1.0, 1.0, -1.0, 0.0]


def test_no_gradient_passes_the_encoder_and_the_decoders_is_a_sum():
    x = torch.randn(4, 1, 1, requires_grad=True)
    assert not ranvier.DeltaEncoder(0.5)(x).requires_grad
    ranvier.DeltaDecoder(0.5)(x).sum().backward()
    assert x.grad.flatten().tolist() == [2.0, 1.5, 1.0, 0.5]


@pytest.mark.parametrize("cls", DELTA)
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_threshold_that_is_none_is_refused(cls, bad):
    with pytest.raises(Refusal, match=rf"{cls.__name__}: expected a threshold above 0; got {bad}\."):
        cls(bad)


@pytest.mark.parametrize("cls", DELTA)
def test_delta_coding_refuses_integers(cls):
    with pytest.raises(Refusal, match=rf"{cls.__name__}: expected floating-point input; got torch\.int64"):
        cls(0.5)(torch.ones(3, 1, 1, dtype=torch.int64))


@pytest.mark.parametrize("cls", ENCODERS + DECODERS + DELTA)
def test_the_docstring_has_every_part(cls):
    text = inspect.getdoc(cls)
    for part in (
        r"^(y|z)(\[t\])? = ",
        r"^Input: .*\[(T|1|B)|^Input: a single step \[1",
        r"Output: .*\[?",
        r"^Raises: ",
        r"^>>> ",
    ):
        assert re.search(part, text, re.MULTILINE), part
