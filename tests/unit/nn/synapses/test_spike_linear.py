"""The layer takes spikes as tensors or events, whole or in chunks, and computes what Linear does."""

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn.synapses.spike_linear import SpikeLinear
from ranvier.ops import spike_linear as op
from ranvier.ops.spike_pack.spikes import Spikes


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    monkeypatch.setattr(op, "SMALL", 0)


def spikes(*shape, density=0.1):
    return (torch.rand(shape) < density).float()


@pytest.mark.parametrize("features", [(70,), (3, 70)])
def test_it_is_linear_with_the_same_weights(features):
    layer, torchs = SpikeLinear(70, 30), nn.Linear(70, 30)
    torchs.load_state_dict(layer.state_dict())
    assert isinstance(layer, nn.Linear)
    for x in (spikes(5, 2, *features), spikes(5, 2, *features) * 3, torch.randn(5, 2, *features)):
        torch.testing.assert_close(layer(x), torchs(x), rtol=1e-5, atol=1e-5)
        view = x.transpose(0, 1)
        torch.testing.assert_close(layer(view), torchs(view), rtol=1e-5, atol=1e-5)
    assert layer(spikes(5, 0, *features)).shape == (5, 0, *features[:-1], 30)


def test_events_run_through_a_network_whole_and_in_chunks():
    torch.manual_seed(1)
    net = nn.Sequential(SpikeLinear(70, 30, declared=True), ranvier.LIF(), SpikeLinear(30, 5))
    dense = spikes(9, 4, 70, density=0.3)
    x = Spikes.from_dense(dense)
    whole, _ = ranvier.run(net, x)
    assert torch.equal(whole, net(dense))
    first, state = ranvier.run(net, x[:4])
    second, _ = ranvier.run(net, x[4:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    (grad,) = torch.autograd.grad(whole.square().sum(), net[0].weight)
    (expected,) = torch.autograd.grad(net(dense).square().sum(), net[0].weight)
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-5)


def test_refusals_name_the_layer():
    layer = SpikeLinear(4, 6, declared=True)
    for bad in (torch.zeros(2, 4), torch.zeros(5, 2, 3), Spikes.from_dense(torch.zeros(5, 2, 3))):
        with pytest.raises(
            Refusal, match=r"SpikeLinear: expected \[T, B, \.\.\., 4\], time first; got shape .*unsqueeze"
        ):
            layer(bad)
    with pytest.raises(Refusal, match="SpikeLinear: expected spikes, each 0 or 1, as the layer was declared to get"):
        layer(torch.full((5, 2, 4), 0.5))
    assert "declared=True" in repr(layer) and "declared" not in repr(SpikeLinear(4, 6))


def test_compiled_it_computes_the_same():
    layer, x = SpikeLinear(70, 30), spikes(5, 2, 70)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x), rtol=1e-5, atol=1e-5)


def test_under_activation_checkpointing():
    layer, x = SpikeLinear(70, 30), spikes(5, 2, 70)
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    y.sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((30,), 10.0))
