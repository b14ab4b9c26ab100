"""E-I layers are their equations sample by sample, start in range, and keep Dale's law through training."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

import ranvier
from ranvier.core.checks import Refusal
from ranvier.models.ei_networks import MLP_WIDTHS, ei_mlp, ei_vgg, neurons, plain_mlp
from ranvier.nn.synapses.lateral import Lateral, clamp_dale, ei_init, keep_dale
from ranvier.nn.synapses.lateral_conv import EIConv2d
from ranvier.nn.synapses.lateral_linear import EILinear

F64 = torch.float64
LAYERS = [
    (lambda **k: EILinear(6, 8, **k), (6,)),
    (lambda **k: EILinear(6, 3, **k), (2, 6)),
    (lambda **k: EIConv2d(2, 8, 3, padding=1, stride=2, **k), (2, 5, 4)),
    (lambda **k: EIConv2d(2, 5, 2, **{"ei_ratio": 2, **k}), (2, 5, 4)),
]
layers = pytest.mark.parametrize(("make", "features"), LAYERS, ids=["linear", "linear of two axes", "conv", "conv 2"])


def spikes(*features, steps=3, batch=4, rate=0.4):
    return (torch.rand(steps, batch, *features, generator=torch.Generator().manual_seed(3)) < rate).float()


def restated(layer, x):
    """The card's equations for one sample x of one step."""
    p = {k: v.detach() for k, v in layer.state_dict().items()}
    conv = isinstance(layer, EIConv2d)

    def currents(w):
        return nn.functional.conv2d(x[None], w, None, layer.stride, layer.padding)[0] if conv else x @ w.T

    def mixed(i):
        return torch.einsum("oi,i...->o...", p["lateral"], i) if conv else i @ p["lateral"].T

    def along(v):
        return v[:, None, None] if conv else v

    excited, inhibited = currents(p["excitatory"]), currents(p["inhibitory"])
    balanced = excited - mixed(inhibited)
    if layer.output:
        return balanced
    shunt = mixed(along(p["inhibitory_gain"]) * inhibited)
    if not shunt.any():
        return along(p["bias"]).expand(balanced.shape)
    shunt = torch.where(shunt == 0, shunt[shunt > 0].min(), shunt)
    return along(p["gain"]) * balanced / shunt + along(p["bias"])


def scattered(layer):
    """The layer with all parameters different, some of them 0."""
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(torch.rand(p.shape) if name != "bias" else torch.randn(p.shape))
            p[torch.rand(p.shape) < 0.3] = 0.0
    return layer


@layers
@pytest.mark.parametrize("output", [False, True])
@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
def test_a_layer_is_its_equation_for_every_sample_and_step(make, features, output, rate):
    layer, x = scattered(make(output=output)).double(), spikes(*features, rate=rate).double()
    y = layer(x)
    for t in range(3):
        for b in range(4):
            assert torch.allclose(y[t, b], restated(layer, x[t, b]), rtol=1e-9, atol=1e-11)


@layers
def test_a_silent_sample_gives_the_bias_and_no_gradient_but_to_it(make, features):
    layer, x = make(), spikes(*features)
    with torch.no_grad():
        layer.bias.copy_(torch.arange(len(layer.bias)))
    x[1, 2] = 0
    x.requires_grad_()
    y = layer(x)
    axis = 0 if isinstance(layer, EIConv2d) else -1
    assert torch.equal(y[1, 2].movedim(axis, -1), layer.bias.expand(y[1, 2].movedim(axis, -1).shape))
    grads = torch.autograd.grad(y[1, 2].sum(), [x, *layer.parameters()])
    assert not any(g.any() for g, (k, _) in zip(grads[1:], layer.named_parameters(), strict=True) if k != "bias")
    assert all(g.isfinite().all() for g in grads) and grads[-1].any()


@layers
@pytest.mark.parametrize("output", [False, True])
def test_gradients_agree_with_finite_differences(make, features, output):
    layer = make(output=output, ei_prop=False).double()
    x = (0.1 + spikes(*features, steps=1, batch=2).double()).requires_grad_()
    names, values = zip(*layer.named_parameters(), strict=True)
    torch.autograd.gradcheck(lambda x, *p: functional_call(layer, dict(zip(names, p, strict=True)), x), (x, *values))


@layers
def test_ei_prop_divides_the_gradient_of_the_lateral_weights_by_the_fan_in(make, features):
    x = spikes(*features)
    grads = []
    for ei_prop in (True, False):
        torch.manual_seed(0)
        layer = make(ei_prop=ei_prop)
        layer(x).square().sum().backward()
        grads.append({k: p.grad for k, p in layer.named_parameters()})
    fan_in = layer.excitatory[0].numel()
    assert fan_in == layer.fan_in
    for k, g in grads[0].items():
        assert torch.allclose(g * (fan_in if k == "lateral" else 1), grads[1][k], rtol=1e-5)


def test_the_gradient_passes_straight_through_a_zero_of_the_divisor():
    layer = EILinear(2, 8).double()
    with torch.no_grad():
        layer.lateral[0] = 0.0
    x = torch.ones(1, 1, 2, dtype=F64)
    layer(x)[..., 0].sum().backward()
    inhibited = (layer.inhibitory.sum(1) * layer.inhibitory_gain).detach()
    shunt = (layer.lateral @ inhibited).detach()
    excited, smallest = layer.excitatory[0].sum().detach(), shunt[1:].min()
    # of balanced / shunt, with the smallest value in the place of 0
    expected = -(layer.inhibitory.sum(1).detach()) / smallest - inhibited * excited / smallest**2
    assert torch.allclose(layer.lateral.grad[0] * 2, expected)


@pytest.mark.parametrize(("make", "features"), [(EILinear, (40,)), (partial(EIConv2d, kernel_size=3), (10, 6, 6))])
def test_ei_init_makes_currents_of_mean_0_and_variance_near_1(make, features):
    x = torch.rand(4, 100, *features, generator=torch.Generator().manual_seed(0))
    layer = make(features[0], 200)
    layer.init_from_batch(x)
    assert torch.allclose(layer.lateral, torch.tensor(1 / 50)) and not layer.bias.any()
    assert abs(layer(x).mean()) < 0.3 and 0.5 < layer(x).std() < 1.5


def test_ei_init_is_the_cards_formulas():
    x, layer = torch.rand(3, 50, 40), EILinear(40, 2000)
    layer.init_from_batch(x)
    rows = x.reshape(-1, 40)
    mean, square, variance = rows.mean(), rows.square().mean(), rows.var(0, correction=0).mean()
    scale = math.sqrt(variance / (40 * (square + variance)))
    for w in (layer.excitatory, layer.inhibitory):
        assert w.mean().item() == pytest.approx(scale, rel=0.03) and w.std().item() == pytest.approx(scale, rel=0.05)
    assert torch.allclose(layer.inhibitory_gain, torch.sqrt(square + variance) / (math.sqrt(40) * mean))
    assert torch.equal(layer.gain, torch.ones(2000)) and layer.lateral.shape == (2000, 500)


def pictures(batch=128):
    """Smooth images in [0, 1]."""
    coarse = torch.rand(batch, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    x = nn.functional.interpolate(coarse, size=28, mode="bicubic").clamp(0, 1)
    return x[None]


def test_a_16_layer_mlp_starts_with_every_layer_in_range():
    """Claim of the paper's simulation: mean within 0.2, spread 0.5 to 1.5, rates 3 to 40 %."""
    net, x = ei_mlp(784, 10), pictures()
    ei_init(net, x, torch.Generator().manual_seed(0))
    assert sum(isinstance(m, EILinear) for m in net) == len(MLP_WIDTHS) + 1 == 17
    for module in net[:-2]:
        x = module(x)
        if isinstance(module, Lateral):
            assert abs(x.mean()) < 0.2 and 0.5 < x.std() < 1.5
        if isinstance(module, ranvier.LIF):
            assert 0.03 < x.mean() < 0.4


def test_dales_law_holds_after_a_hundred_steps_and_biases_stay_free():
    torch.manual_seed(0)
    net, x, y = ei_mlp(784, 10, widths=(40, 32, 24)), pictures(32), torch.arange(32) % 10
    ei_init(net, x)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    handle = keep_dale(optimiser, net)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    signed = [p for m in net.modules() if isinstance(m, Lateral) for p in m.signed()]
    assert len(signed) == 5 * 3 + 3 and min(float(p.detach().min()) for p in signed) == 0.0
    assert min(float(m.bias.detach().min()) for m in net.modules() if hasattr(m, "bias")) < 0
    handle.remove()
    with torch.no_grad():
        signed[0].fill_(-1.0)
    clamp_dale(net)
    assert not signed[0].any()


def test_clamping_leaves_momentum_as_it_is():
    """As if the equation were trained without bounds and clamped by hand after each step."""
    layer = EILinear(4, 8)
    other = EILinear(4, 8)
    other.load_state_dict(layer.state_dict())
    optimisers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in (layer, other)]
    keep_dale(optimisers[0], layer)
    x = spikes(4, batch=8)
    for _ in range(20):
        for m, o in zip((layer, other), optimisers, strict=True):
            o.zero_grad()
            m(x).square().sum().backward()
            o.step()
        with torch.no_grad():
            for name, p in other.named_parameters():
                if name != "bias":
                    p.clamp_(min=0)
    assert (layer.excitatory == 0).any()
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), other.parameters(), strict=True))


def test_a_weight_below_0_counts_as_0_and_is_not_driven_further_down():
    layer = EILinear(2, 4, ei_prop=False, output=True)
    with torch.no_grad():
        layer.excitatory.fill_(-0.5)
    x = torch.ones(1, 1, 2)
    assert torch.equal(layer(x), -layer(x).abs()) and not torch.equal(layer(x), torch.zeros(1, 1, 4))
    layer(x).sum().backward()
    assert not layer.excitatory.grad.any()
    layer.zero_grad()
    (-layer(x)).sum().backward()
    assert (layer.excitatory.grad < 0).all()


@layers
def test_16_bits_are_computed_in_32_and_given_back(make, features):
    layer, x = make(), spikes(*features)
    assert torch.equal(layer(x.bfloat16()), layer(x).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x), make_again(layer, x))


def make_again(layer, x):
    with torch.autocast("cpu", enabled=False):
        return layer(x)


@layers
def test_empty_batches_and_steps(make, features):
    layer, x = make(), spikes(*features)
    assert layer(x[:, :0]).shape == (3, 0, *layer(x).shape[2:])
    assert layer(x[:0]).shape == (0, 4, *layer(x).shape[2:])


@layers
def test_layers_are_compiled_exported_and_transformed(make, features):
    layer, x = make(), spikes(*features)
    whole = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.allclose(whole(x), layer(x), atol=1e-5)
    assert torch.allclose(torch.export.export(layer, (x,)).module()(x), layer(x), atol=1e-5)
    params = {k: v.detach() for k, v in layer.named_parameters()}
    grads = grad(lambda p: functional_call(layer, p, x).square().sum())(params)
    layer(x).square().sum().backward()
    assert all(torch.allclose(grads[k], v.grad, rtol=1e-4, atol=1e-5) for k, v in layer.named_parameters())


@layers
def test_what_a_layer_can_not_take_is_refused(make, features):
    layer, x = make(), spikes(*features)
    kind = type(layer).__name__
    for bad in (x[..., :1] if kind == "EILinear" else x[:, :, :1], x[0, 0], x.long()):
        with pytest.raises(Refusal, match=rf"{kind}: expected floating-point \[T, B, .*time first; got shape"):
            layer(bad)
    with pytest.raises(Refusal, match=rf"{kind}: expected inputs of 0 or more.*got -1\. Give pixels"):
        layer(x - 1)
    with pytest.raises(Refusal, match=rf"{kind}\.init_from_batch: expected finite inputs that differ"):
        layer.init_from_batch(torch.zeros_like(x))
    with pytest.raises(Refusal, match=rf"{kind}\.ei_ratio: expected 1 or more; got 0"):
        make(ei_ratio=0)


def test_networks_have_their_layers_and_shapes():
    assert ei_vgg(8, 3, 32, 10, steps=1)(torch.rand(1, 1, 3, 32, 32)).shape == (1, 10)
    for depth in (8, 11, 16, 19):
        net = ei_vgg(depth, 3, 32, 10)
        assert sum(isinstance(m, Lateral) for m in net) == (8 if depth == 8 else depth - 1)
    assert plain_mlp(784, 10)(torch.rand(1, 2, 1, 28, 28)).shape == (2, 10)


def test_their_neurons_are_half_of_the_authors():
    """v <- v / 2 + x, threshold 1, subtracted without a gradient, surrogate sigmoid(4 u)."""
    x = torch.randn(8, 2, 5, dtype=F64).mul(1.5).requires_grad_()
    z = neurons().double()(x)
    v, outputs = torch.zeros(2, 5, dtype=F64), []
    for x_t in x:
        v = v / 2 + x_t
        smooth = torch.sigmoid(4 * (v - 1))
        outputs.append((v >= 1).double() + smooth - smooth.detach())
        v = v - outputs[-1].detach()
    weight = torch.randn_like(z)
    assert torch.allclose(z, torch.stack(outputs))
    a, b = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (z, torch.stack(outputs)))
    assert torch.allclose(a, b, rtol=1e-3)
