"""Facilitation and depression are Tsodyks' and Markram's, spike by spike; kernels are the step."""

import math

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn.synapses.short_term_plasticity import ShortTermPlasticity

F64 = torch.float64


def trains(shape=(40, 3, 5), rate=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < rate).float()


def restated(x, use, tau_f, tau_d, dt=1.0):
    """One train of spikes: what happens at a spike, and exact relaxation from one spike to the next."""
    u, r, last, y = 0.0, 1.0, 0, []
    for t, spike in enumerate(x.tolist()):
        y.append(0.0)
        if spike:
            gap = (t - last) * dt
            u, r = u * math.exp(-gap / tau_f), 1 - (1 - r) * math.exp(-gap / tau_d)
            u = u + use * (1 - u)
            y[-1] = u * r
            r, last = r - u * r, t
    return y


@pytest.mark.parametrize(
    ("use", "tau_f", "tau_d"), [(0.5, 0.1, 30.0), (0.1, 60.0, 5.0), (0.3, 20.0, 20.0), (1.0, 1, 1)]
)
def test_it_is_the_model_from_spike_to_spike(use, tau_f, tau_d):
    x = trains().double()
    y = ShortTermPlasticity(use=use, tau_facilitation=tau_f, tau_depression=tau_d).double()(x)
    for b in range(3):
        for i in range(5):
            expected = torch.tensor(restated(x[:, b, i], use, tau_f, tau_d), dtype=F64)
            assert torch.allclose(y[:, b, i], expected, atol=1e-6)  # parameters were rounded to float32


def test_a_depressing_and_a_facilitating_synapse():
    x = torch.ones(20, 1, 1)
    down = ShortTermPlasticity(use=0.5, tau_facilitation=0.1, tau_depression=100.0)(x).flatten()
    up = ShortTermPlasticity(use=0.05, tau_facilitation=100.0, tau_depression=0.1)(x).flatten()
    assert (down.diff() < 0).all() and (up.diff() > 0).all()


def test_a_steady_train_reaches_the_known_steady_state():
    """At rate 1 / gap: u = U / (1 - (1 - U) e_f), R = (1 - e_d) / (1 - (1 - u) e_d)."""
    use, tau_f, tau_d, gap = 0.3, 15.0, 25.0, 4
    x = torch.zeros(400, 1, 1, dtype=F64)
    x[::gap] = 1
    y = ShortTermPlasticity(use=use, tau_facilitation=tau_f, tau_depression=tau_d).double()(x)
    e_f, e_d = math.exp(-gap / tau_f), math.exp(-gap / tau_d)
    u = use / (1 - (1 - use) * e_f)
    assert y[396].item() == pytest.approx(u * (1 - e_d) / (1 - (1 - u) * e_d), rel=1e-5)


def learnt(features=5, dtype=torch.float32):
    return ShortTermPlasticity(
        use=nn.Parameter(torch.linspace(0.1, 0.6, features, dtype=dtype)),
        tau_facilitation=nn.Parameter(torch.linspace(1, 60, features, dtype=dtype)),
        tau_depression=nn.Parameter(torch.tensor(20.0, dtype=dtype)),
    )


@pytest.mark.parametrize("shape", [(1, 1, 5), (17, 3, 5), (40, 2, 3, 5), (0, 2, 5), (33, 1, 5)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_kernels_and_reference_agree_with_all_gradients(shape, rate, dtype):
    x, weight, found = trains(shape, rate).to(dtype), torch.randn(shape, dtype=dtype), []
    for backend in ("fused", "reference"):
        layer, u = learnt(dtype=dtype), x.clone().requires_grad_()
        with ranvier.backend(backend):
            y, state = ranvier.run(layer, u)
        leaves = [u, *layer.parameters()] if len(x) else []
        loss = (y * weight).sum() + sum(v.sum() for v in state.values())
        found.append([y, *state.values(), *(torch.autograd.grad(loss, leaves) if leaves else ())])
    for fused, plain in zip(*found, strict=True):
        assert torch.allclose(fused, plain, rtol=1e-4, atol=1e-5)


def test_gradients_agree_with_finite_differences(reference):
    layer = learnt(2, F64)
    x = torch.rand(5, 1, 2, dtype=F64, requires_grad=True)
    parameters = list(layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *p: layer(x), (x, *parameters))


@pytest.mark.parametrize("sizes", [[40], [13, 27], [1] * 40, [0, 40]])
def test_chunks_are_the_whole(sizes):
    layer, x, state, parts = learnt(), trains(), None, []
    whole, expected = ranvier.run(layer, x)
    for chunk in x.split(sizes):
        y, state = ranvier.run(layer, chunk, state)
        parts.append(y)
    assert torch.equal(torch.cat(parts), whole) and sorted(state) == ["u", "used"]
    assert all(torch.equal(state[k], v) for k, v in expected.items())


def test_16_bits_compile_and_export():
    layer, x = ShortTermPlasticity(), trains()
    expected = layer(x)
    assert torch.equal(layer(x.bfloat16()), expected.bfloat16())
    assert torch.allclose(torch.compile(layer, backend="aot_eager", fullgraph=True)(x), expected)
    assert torch.allclose(torch.export.export(layer, (x,)).module()(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"use": 1.5}, r"use: expected finite values in \[0, 1\]; got 1.5"),
        ({"tau_depression": 0.0}, r"tau_depression: expected finite values in \[0.1, inf\]; got 0"),
        ({"tau_facilitation": -1.0}, r"tau_facilitation: expected finite values in \[0.1, inf\]; got -1"),
        ({"usage": 0.1}, r"expected a parameter that it declares; got 'usage'\. Did you mean 'use'"),
    ],
)
def test_parameters_out_of_bounds_are_refused(options, text):
    with pytest.raises(Refusal, match=text):
        ShortTermPlasticity(**options)
    with pytest.raises(Refusal, match=r"expected \[T, B, \.\.\.features\], time first"):
        ShortTermPlasticity()(torch.zeros(3, 2))
