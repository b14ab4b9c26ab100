"""DelayedLinear: what it computes, in chunks too, its bounds, its rounded copy, and what the paper says of learning."""

import copy

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn.synapses.delayed_linear import DelayedLinear

KINDS = ["gaussian", "triangle", "rounded"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def spikes(steps=20, batch=3, features=6, density=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, features, generator=generator) < density).float()


def by_hand(layer, x):
    """The equation, a sum of one synapse after the other."""
    lags = torch.arange(layer.max_delay + 1)
    y = torch.zeros(len(x), x.shape[1], layer.out_features)
    delay = layer.delay.detach().expand(layer.out_features, layer.in_features)
    for o in range(layer.out_features):
        for i in range(layer.in_features):
            d = delay[o, i]
            if layer.kind == "gaussian":
                g = torch.exp(-0.5 * ((lags - d) / (layer.sigma + 0.27)) ** 2)
                g = g / (g.sum() + 1e-7)
            else:
                d = d.round() if layer.kind == "rounded" else d
                g = (1 - (lags - d).abs()).clamp(min=0)
            for k in lags[: len(x)].tolist():
                y[k:, :, o] += layer.weight[o, i].detach() * g[k] * x[: len(x) - k, :, i]
    return y if layer.bias is None else y + layer.bias.detach()


@every_kind
@pytest.mark.parametrize("delays", ["synapse", "axon", "dendrite"])
def test_the_layer_is_its_equation(kind, delays):
    torch.manual_seed(0)
    layer, x = DelayedLinear(6, 5, 7, kind=kind, sigma=0.8, delays=delays, bias=True), spikes()
    assert layer.delay.shape == {"synapse": (5, 6), "axon": (1, 6), "dendrite": (5, 1)}[delays]
    expected = by_hand(layer, x)
    assert torch.allclose(layer(x), expected, atol=1e-5)
    with ranvier.backend("reference"):
        assert torch.allclose(layer(x), expected, atol=1e-5)
    layer(x).square().sum().backward()
    assert layer.delay.grad.shape == layer.delay.shape and layer.delay.grad.any()


@every_kind
@pytest.mark.parametrize("sizes", [[20], [1] * 20, [3, 10, 7]])
def test_chunks_have_the_bits_of_the_whole(kind, sizes):
    torch.manual_seed(0)
    layer, x = DelayedLinear(6, 5, 7, kind=kind), spikes()
    x[8:12] = torch.randn(4, 3, 6)  # steps full of values among steps of few spikes
    whole, end = ranvier.run(layer, x)
    state, outputs = None, []
    for chunk in x.split(sizes):
        y, state = ranvier.run(layer, chunk, state)
        outputs.append(y)
    assert torch.equal(torch.cat(outputs), whole) and torch.equal(layer(x), whole)
    assert torch.equal(state["past"], end["past"]) and torch.equal(end["past"], x[-7:].transpose(0, 1))


def test_gradients_reach_back_through_the_state():
    torch.manual_seed(0)
    layer, x = DelayedLinear(6, 5, 7), spikes().requires_grad_()
    first, state = ranvier.run(layer, x[:9])
    second, _ = ranvier.run(layer, x[9:], state)
    weight = torch.randn(20, 3, 5)
    wanted = [x, layer.weight, layer.delay]
    chunked = torch.autograd.grad((torch.cat([first, second]) * weight).sum(), wanted)
    whole = torch.autograd.grad((layer(x) * weight).sum(), wanted)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(chunked, whole, strict=True))


def test_a_rounded_layer_delays_a_spike_by_whole_steps_exactly():
    torch.manual_seed(0)
    layer = DelayedLinear(4, 3, 12)
    rounded, delays = layer.rounded(), layer.delays()
    assert delays.dtype == torch.int64 and delays.shape == (3, 4) and not rounded.places()
    assert layer.kind == "gaussian" and layer.places()  # the layer itself is as it was
    for i in range(4):
        x = torch.zeros(20, 1, 4)
        x[5, 0, i] = 1.0
        expected = torch.zeros(20, 3)
        expected[5 + delays[:, i], torch.arange(3)] = layer.weight[:, i].detach()
        assert torch.equal(rounded(x)[:, 0], expected)
    x, state, steps = spikes(features=4), None, []
    for x_t in x:  # the state is a buffer of the past
        y, state = ranvier.run(rounded, x_t[None], state)
        steps.append(y)
    assert torch.equal(torch.cat(steps), rounded(x))


def test_silence_after_the_input_lets_late_spikes_arrive():
    layer = DelayedLinear(1, 1, 4, kind="rounded", start=3.0, pad=2)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    x = torch.tensor([0.0, 0.0, 1.0, 1.0]).reshape(4, 1, 1)
    assert layer(x).flatten().tolist() == [0, 0, 0, 0, 0, 1]
    mean, _ = ranvier.run(nn.Sequential(layer, ranvier.RateDecoder()), x, lengths=torch.tensor([4]))
    assert mean.item() == pytest.approx(1 / 6)  # the lengths grow with it
    _, state = ranvier.run(layer, x)
    with pytest.raises(Refusal, match="DelayedLinear: expected a whole sequence, since 2 steps are added"):
        ranvier.run(layer, x, state)


def test_delays_come_back_from_beyond_their_bounds():
    layer = DelayedLinear(1, 1, 6, sigma=2.0)
    with torch.no_grad():
        layer.weight.fill_(1.0), layer.delay.fill_(8.0)  # one step of an optimiser too far
    x, late = torch.zeros(12, 1, 1), torch.zeros(12, 1, 1)
    x[0] = late[6] = 1.0
    (layer(x) * late).sum().backward()  # descent leads to less at lag 6: back in
    assert layer.delay.grad.item() >= 0 and layer.delays().item() == 6
    layer.delay.grad = None
    (-layer(x) * late).sum().backward()  # and here further out
    assert layer.delay.grad.item() == 0


def test_fixed_delays_are_no_parameters_and_are_saved():
    layer = DelayedLinear(3, 2, 5, learn=False)
    assert [n for n, _ in layer.named_parameters()] == ["weight"]
    twin = DelayedLinear(3, 2, 5)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(spikes(features=3)), layer(spikes(features=3)))
    none = DelayedLinear(3, 2, 0)
    x = spikes(features=3)
    assert torch.allclose(none(x), x @ none.weight.T, atol=1e-6)


def test_other_dtypes_and_autocast():
    layer, x = DelayedLinear(6, 5, 7), spikes()
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert torch.allclose(layer(x.bfloat16()).float(), layer(x), atol=0.02)
    double = copy.deepcopy(layer).double()
    assert torch.allclose(double(x.double()).float(), layer(x), atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32 and torch.equal(y, layer(x))


def test_compiled_and_exported_it_is_the_reference():
    layer, x = DelayedLinear(6, 5, 3), spikes(steps=6)
    exported = torch.export.export(layer, (x,)).module()
    assert torch.allclose(exported(x), layer(x), atol=1e-5)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x), layer(x), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_delay": -1}, "expected a max_delay and a pad of 0 or more steps"),
        ({"pad": -1}, "expected a max_delay and a pad of 0 or more steps"),
        ({"sigma": float("nan")}, "a finite sigma"),
        ({"start": 9.0}, r"DelayedLinear.start: expected finite values in \[0, 4\]; got 9"),
        ({"start": -1.0}, r"DelayedLinear.start: expected finite values in \[0, 4\]; got -1"),
        ({"kind": "gauss"}, "DelayedLinear.kind: expected one of .* Did you mean 'gaussian'"),
        ({"delays": "axons"}, "DelayedLinear.delays: expected one of .* Did you mean 'axon'"),
    ],
)
def test_bad_options_are_refused(options, text):
    with pytest.raises(Refusal, match=text):
        DelayedLinear(3, 2, **{"max_delay": 4, **options})


@pytest.mark.parametrize(
    "bad", [torch.zeros(5, 3), torch.zeros(5, 2, 4), torch.zeros(5, 2, 3).long(), torch.zeros(1, 5, 2, 3)]
)
def test_other_shapes_are_refused(bad):
    with pytest.raises(Refusal, match=r"DelayedLinear: expected floating-point \[T, B, 3\], time first; got shape"):
        DelayedLinear(3, 2, 4)(bad)


def fitted(scheduled):
    """A synapse fitted by Adam to one whose delay is 3 steps off the middle of 0 ... 40, from four places at once."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.tensor([-20.0, -10.0, 0.0, 10.0])  # positions, counted from the middle against time
    layer = DelayedLinear(1, 4, 40, sigma=20.0, start=(20 - starts)[:, None])
    target = DelayedLinear(1, 4, 40, sigma=0.23, start=17.0, learn=False)
    with torch.no_grad():
        layer.weight.fill_(1.0), target.weight.fill_(1.0)
    optimiser = torch.optim.Adam([layer.delay], lr=0.1)
    for step in range(600):
        x = (torch.rand(300, 4, 1, generator=generator) < 0.05).float()
        layer.sigma.fill_(20 * (0.23 / 20) ** min(step / 300, 1) if scheduled else 0.23)
        loss = (layer(x) - target(x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (layer.delay.detach().clamp(0, 40).flatten() - 17).abs()


def test_a_width_that_shrinks_finds_the_delay_and_a_narrow_one_does_not():
    assert (fitted(scheduled=True) < 0.1).all()
    assert (fitted(scheduled=False) >= 2.0).all()
