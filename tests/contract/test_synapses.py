"""Synapses are torch's own at every time step; delays and recurrence are what a loop by hand gives."""

import inspect
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

import ranvier
from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover
from ranvier.nn.synapses.sparse import SparseLinear
from ranvier.nn.synapses.spike_conv import SpikeConv2d
from ranvier.nn.synapses.spike_linear import SpikeLinear

NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
DRIVE = {
    "izhikevich": 20.0,
    "resonate-and-fire": 40.0,
    "adaptive-lif": 4.0,
    "adex": 4.0,
    "ei-current-lif": 20.0,
    "refractory-lif": 60.0,
}
"""What makes a neuron fire in a few steps, where its input is not of the order of 1."""


def sequence(*features, steps=5, batch=2):
    return 2 * torch.randn(steps, batch, *features, generator=torch.Generator().manual_seed(0))


PICTURES = [
    (ranvier.Linear(4, 6), nn.Linear.forward, (4,)),
    (ranvier.Linear(4, 6, bias=False), nn.Linear.forward, (3, 4)),
    (ranvier.Conv1d(4, 6, 3, padding=1, stride=2), nn.Conv1d.forward, (4, 7)),
    (ranvier.Conv1d(4, 6, 3, padding=2, padding_mode="circular", groups=2), nn.Conv1d.forward, (4, 7)),
    (ranvier.Conv2d(4, 6, (3, 2), bias=False), nn.Conv2d.forward, (4, 7, 6)),
    (ranvier.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4), nn.Conv2d.forward, (4, 7, 6)),
    (SpikeLinear(4, 6), nn.Linear.forward, (4,)),
    (SpikeConv2d(4, 6, 3, padding=1, groups=2), nn.Conv2d.forward, (4, 7, 6)),
    (ranvier.AvgPool2d(2), lambda _, x: functional.avg_pool2d(x, 2), (4, 7, 6)),
    (ranvier.SumPool2d(3, stride=1), lambda _, x: functional.avg_pool2d(x, 3, 1) * 9, (4, 7, 6)),
    (ranvier.MaxPool2d(2, stride=1), lambda _, x: functional.max_pool2d(x, 2, 1), (4, 7, 6)),
]
pictures = pytest.mark.parametrize(
    ("layer", "torchs", "features"), PICTURES, ids=lambda v: repr(v) if isinstance(v, nn.Module) else ""
)


@pictures
def test_every_step_is_torchs(layer, torchs, features):
    x = sequence(*features)
    y = layer(x)
    assert y.shape[:2] == (5, 2)
    for t in range(5):
        assert torch.allclose(y[t], torchs(layer, x[t]), rtol=1e-5, atol=1e-6)


@pictures
def test_time_and_batch_may_be_empty_and_views(layer, torchs, features):
    x = sequence(*features)
    assert layer(x[:, :0]).shape == (5, 0, *layer(x).shape[2:])
    assert torch.allclose(layer(x.transpose(0, 1)), layer(x).transpose(0, 1), rtol=1e-5, atol=1e-6)
    assert layer(x[:0]).shape == (0, 2, *layer(x).shape[2:])


@pictures
def test_a_missing_axis_or_other_features_are_refused_with_what_is_expected(layer, torchs, features):
    x = sequence(*features)
    wrong = [x[0, 0] if features == (3, 4) else x[0]]  # [2, 3, 4] may well be a sequence of 4 features
    if hasattr(layer, "weight"):
        wrong.append(x[..., :1] if isinstance(layer, ranvier.Linear) else x[:, :, :2])
    for bad in wrong:
        text = rf"{type(layer).__name__}: expected \[T, B, .*time first; got shape \({bad.shape[0]},.*unsqueeze"
        with pytest.raises(Refusal, match=text):
            layer(bad)


@pytest.mark.parametrize("layer", [ranvier.Linear(4, 6), ranvier.Conv1d(4, 6, 3), ranvier.Conv2d(4, 6, 3)])
def test_weights_are_named_and_shaped_as_torchs(layer):
    torchs = getattr(nn, type(layer).__name__)(*((4, 6) if isinstance(layer, nn.Linear) else (4, 6, 3)))
    torchs.load_state_dict(layer.state_dict())
    assert isinstance(layer, type(torchs))


def test_fold_equals_the_modules_at_every_step():
    fold = ranvier.Fold(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).eval()
    x = sequence(2, 5, 5)
    y = fold(x)
    assert all(torch.allclose(y[t], fold.inner(x[t]), atol=1e-6) for t in range(5))
    assert list(ranvier.Fold(nn.Linear(2, 2)).state_dict()) == ["inner.weight", "inner.bias"]


def test_a_batch_norm_in_fold_sees_all_steps_and_samples():
    x = sequence(4)
    y = ranvier.Fold(nn.BatchNorm1d(4))(x)
    assert torch.allclose(y.mean((0, 1)), torch.zeros(4), atol=1e-6)
    assert torch.allclose(y.var((0, 1), unbiased=False), torch.ones(4), atol=1e-3)


@pytest.mark.parametrize(
    "inside", [ranvier.LIF(), nn.Sequential(nn.Linear(2, 2), ranvier.LIF()), ranvier.DelayLine([1])]
)
def test_fold_refuses_what_has_state(inside):
    with pytest.raises(Refusal, match=r"Fold: expected modules without state; got (LIF|DelayLine) at '"):
        ranvier.Fold(nn.Flatten(), inside)


# delays


@pytest.mark.parametrize("delays", [[0], [3], [0, 2], [7, 1, 4], [20]])
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_delay_line_gives_the_input_of_earlier_steps(delays, steps):
    """Also with delays longer than the sequence."""
    x = sequence(2, 3, steps=steps)
    y, state = ranvier.run(ranvier.DelayLine(delays), x)
    for t in range(steps):
        expected = [x[t - d] if t >= d else torch.zeros_like(x[0]) for d in delays]
        assert torch.equal(y[t], torch.cat(expected, 1))
    longest = max(delays)
    past = [x[steps - longest + k] if steps - longest + k >= 0 else torch.zeros_like(x[0]) for k in range(longest)]
    assert state["past"].shape == (2, longest, 2, 3)
    assert all(torch.equal(state["past"][:, k], p) for k, p in enumerate(past))


def test_a_delay_line_takes_spikes_of_any_dtype():
    for dtype in (torch.bfloat16, torch.int64, torch.float64):
        x = (sequence(3) > 0).to(dtype)
        y = ranvier.DelayLine([2])(x)
        assert y.dtype == dtype and torch.equal(y[2:], x[:-2])


@pytest.mark.parametrize("bad", [[], [-1], [1, 1]])
def test_delays_that_are_none_are_refused(bad):
    with pytest.raises(Refusal, match=r"DelayLine: expected different delays of 0 or more steps; got"):
        ranvier.DelayLine(bad)


def test_a_delay_line_refuses_input_without_time_and_batch():
    with pytest.raises(Refusal, match=r"DelayLine: expected \[T, B, C, \.\.\.\], time first; got shape \(4, 3\)"):
        ranvier.DelayLine([1])(torch.zeros(4, 3))


# recurrence


def loop(neuron, synapse, x):
    """Recurrence by the definition: one run of one step after the other."""
    z, state, outputs = torch.zeros_like(x[0]), None, []
    for x_t in x:
        y, state = ranvier.run(neuron, (x_t + synapse(z)).unsqueeze(0), state)
        z = y[0]
        outputs.append(z)
    return torch.stack(outputs), state


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("sizes", [[9], [4, 5], [1] * 9])
def test_recurrence_is_the_loop_by_hand_whole_and_in_chunks(name, sizes, reference):
    torch.manual_seed(0)
    neuron, synapse, x = NEURONS[name](), nn.Linear(4, 4), DRIVE.get(name, 1.0) * (1 + sequence(4, steps=9))
    layer, state, outputs = ranvier.Recurrent(neuron, synapse), None, []
    torch.manual_seed(1)  # which a random neuron draws its seeds from
    expected, expected_state = loop(neuron, synapse, x)
    torch.manual_seed(1)
    for chunk in x.split(sizes):
        y, state = ranvier.run(layer, chunk, state)
        outputs.append(y)
    y = torch.cat(outputs)
    assert torch.equal(y, expected) and y.any()
    assert torch.equal(state.pop("z"), expected[-1])
    assert state.keys() == expected_state.keys() and all(torch.equal(state[k], v) for k, v in expected_state.items())
    weight = torch.randn_like(y)
    a, b = (torch.autograd.grad((out * weight).sum(), synapse.weight)[0] for out in (y, expected))
    assert torch.allclose(a, b, rtol=1e-5) and a.any()


def test_recurrence_makes_a_difference(reference):
    neuron, x = ranvier.LIF(), sequence(4)
    assert not torch.equal(ranvier.Recurrent(neuron, nn.Linear(4, 4))(x), neuron(x))


@pytest.mark.parametrize(
    ("synapse", "features"),
    [
        (ranvier.Linear(4, 4), (4,)),
        (ranvier.Conv2d(2, 2, 3, padding=1), (2, 5, 5)),
        (ranvier.Fold(nn.Conv2d(2, 2, 1)), (2, 5, 5)),
    ],
)
def test_ranviers_synapses_serve_as_recurrent_ones(synapse, features, reference):
    x = sequence(*features)
    expected, _ = loop(ranvier.LIF(), lambda z: synapse(z.unsqueeze(0))[0], x)
    assert torch.equal(ranvier.Recurrent(ranvier.LIF(), synapse)(x), expected)


def test_a_synapse_of_another_dtype_than_the_state_is_fed_in_its_own():
    layer = ranvier.Recurrent(ranvier.LIF(), nn.Linear(4, 4).bfloat16())
    y, state = ranvier.run(layer, sequence(4).bfloat16())
    assert y.dtype == torch.bfloat16 and state["z"].dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = ranvier.run(ranvier.Recurrent(ranvier.LIF(), nn.Linear(4, 4)), sequence(4))
    assert y.dtype == torch.float32 and state["v"].dtype == torch.float32


def test_what_recurs_is_recorded_under_the_name_of_the_whole():
    layer = nn.Sequential(ranvier.Recurrent(ranvier.CuBaLIF(tau=2.0), nn.Linear(4, 4)))
    y, state, recorded = ranvier.run(layer, sequence(4), record=("spikes", "i"))
    assert set(recorded) == {"0.spikes", "0.i"}
    assert torch.equal(recorded["0.spikes"], y) and torch.equal(recorded["0.i"][-1], state["0.i"])


def test_recurrent_refuses_a_synapse_with_state():
    with pytest.raises(Refusal, match=r"Recurrent: expected a synapse without state; got DelayLine at '1'"):
        ranvier.Recurrent(ranvier.LIF(), nn.Sequential(nn.Linear(4, 4), ranvier.DelayLine([1])))


def test_recurrent_refuses_what_its_neuron_refuses():
    with pytest.raises(Refusal, match=r"LIF: expected \[T, B, \.\.\.features\]"):
        ranvier.Recurrent(ranvier.LIF(), nn.Linear(4, 4))(torch.zeros(5, 4))


@pytest.mark.parametrize(
    "cls",
    [
        *(ranvier.Linear, ranvier.Conv1d, ranvier.Conv2d, ranvier.AvgPool2d, ranvier.SumPool2d, ranvier.MaxPool2d),
        *(ranvier.DelayLine, ranvier.Recurrent, ranvier.Fold),
        *(SpikeLinear, SpikeConv2d, SparseLinear),
    ],
)
def test_the_docstring_has_every_part(cls):
    text = inspect.getdoc(cls)
    assert re.match(r"[A-Z].*", text.split("\n")[0])
    for part in (r"^Input: .*\[T, B, ", r"Output: .*", r"Raises: ", r"^>>> "):
        assert re.search(part, text, re.MULTILINE), part


# scale, pooling over time


def test_scale_multiplies_each_feature_and_refuses_another_number_of_them():
    x, s = sequence(3, 4), torch.tensor([1.0, 0.5, 0.0, -2.0])
    layer = ranvier.Scale(s.tolist())
    assert torch.equal(layer(x), x * s) and torch.equal(ranvier.Scale(2.0)(x), 2 * x)
    assert layer(x.bfloat16()).dtype == torch.bfloat16 and not list(layer.parameters())
    for bad in (x[..., :1], x[0, 0]):
        with pytest.raises(Refusal, match=r"Scale: expected \[T, B, \.\.\., 4\], time first; got shape"):
            layer(bad)


def test_pooling_over_time_is_the_mean_of_runs_of_steps_whole_and_in_chunks():
    x, layer = sequence(3, steps=12), ranvier.TimePool(3)
    y = layer(x)
    assert torch.allclose(y, torch.stack([x[3 * t : 3 * t + 3].mean(0) for t in range(4)]))
    assert torch.equal(torch.cat([layer(x[:3]), layer(x[3:])]), y) and layer(x[:0]).shape == (0, 2, 3)
    with pytest.raises(Refusal, match=r"TimePool: expected a multiple of 3 steps; got 11\."):
        layer(x[:11])


def test_pooling_over_time_shortens_the_lengths_with_it():
    x = sequence(3, steps=12)
    net = nn.Sequential(ranvier.TimePool(3), ranvier.RateDecoder())
    y, _ = ranvier.run(net, x, lengths=torch.tensor([12, 6]))
    assert torch.allclose(y, torch.stack([x[:, 0].mean(0), x[:6, 1].mean(0)]), atol=1e-6)
