"""LMUFormer has the published sizes and streams; pruned networks keep the weights that count."""

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.models.legendre import LegendreUnit, TimeConv, l2mu, lmuformer, prefix_scores, pruned

SMALL = {"inputs": 5, "classes": 3, "dim": 8, "window": 6.0}


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_parameters_are_those_of_the_released_code():
    """Counted by building it; the paper says 1.62 and 1.69 million."""
    assert parameters(lmuformer()) == 1_621_796
    assert parameters(lmuformer(spiking=True)) == 1_689_894


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_it_trains_and_prefixes_end_at_the_whole(spiking, causal):
    net, x = lmuformer(**SMALL, depth=2, spiking=spiking, causal=causal), torch.randn(14, 4, 5)
    net(x).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.eval()
    assert torch.allclose(prefix_scores(net, x)[-1], net(x), atol=1e-5)


@pytest.mark.parametrize("spiking", [False, True])
def test_a_causal_one_streams(spiking):
    torch.manual_seed(0)
    net, x = lmuformer(**SMALL, spiking=spiking, causal=True), torch.randn(14, 4, 5)
    net(x)  # batch norms see something
    net.eval()
    whole, _ = ranvier.run(net, x)
    state = None
    for chunk in x.split([1, 1, 5, 7]):
        y, state = ranvier.run(net, chunk, state)
    assert torch.allclose(y, whole, atol=1e-5)
    assert torch.allclose(prefix_scores(net, x)[8], net(x[:9]), atol=1e-5)


def test_one_that_looks_ahead_refuses_chunks():
    net, x = lmuformer(**SMALL).eval(), torch.randn(14, 4, 5)
    _, state = ranvier.run(net, x)
    with pytest.raises(Refusal, match=r"TimeConv: expected a whole sequence, since it looks one step ahead"):
        ranvier.run(net, x, state)


def test_what_is_between_the_spiking_layers_is_spikes():
    net, x = lmuformer(**SMALL, spiking=True).eval(), 3 * torch.randn(14, 4, 5)
    _, _, recorded = ranvier.run(net, x, record=("spikes",))
    assert len(recorded) == 3 + 1 + 4 + 2 + 1
    assert all(((z == 0) | (z == 1)).all() for z in recorded.values())


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_a_convolution_over_time_is_torchs(causal, steps):
    layer, x = TimeConv(3, 4, causal), torch.randn(steps, 2, 3)
    y = layer(x)
    assert y.shape == (steps, 2, 4)
    line = torch.cat([torch.zeros(2 if causal else 1, 2, 3), x, torch.zeros(0 if causal else 1, 2, 3)])
    for t in range(steps):
        expected = sum(line[t + k] @ layer.conv.weight[:, :, k].T for k in range(3))
        assert torch.allclose(y[t], expected, atol=1e-5)
    with pytest.raises(Refusal, match=r"TimeConv: expected \[T, B, 3\], time first"):
        layer(torch.zeros(4, 3))


def test_a_real_unit_is_its_equations():
    unit, x = LegendreUnit(3, 4, order=5, window=8.0, spiking=False), torch.randn(9, 2, 3)
    m, outputs = torch.zeros(2, 5), []
    for x_t in x:
        u = torch.relu(x_t @ unit.signal.weight.T + unit.signal.bias)
        m = m @ unit.memory.transition.T + u * unit.memory.entry
        outputs.append(torch.relu(torch.cat([m, x_t], 1) @ unit.combine.weight.T + unit.combine.bias))
    assert torch.allclose(unit(x), torch.stack(outputs), atol=1e-5)


def test_pruning_keeps_the_largest_weights_and_training_the_zeros():
    net, x = l2mu(6, 4, widths=(8,), memories=5, hidden=12), torch.randn(20, 4, 6)
    weights = torch.cat([m.weight.detach().abs().flatten() for m in net.modules() if isinstance(m, nn.Linear)])
    pruned(net, 0.5)
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    kept = torch.cat([m.weight.flatten() for m in layers])
    assert torch.equal(kept != 0, weights > weights.median()) and abs((kept == 0).float().mean() - 0.5) < 0.01
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    net(x).square().sum().backward()
    optimiser.step()
    after = torch.cat([m.weight.flatten() for m in layers])
    assert torch.equal(after == 0, kept == 0)
    with pytest.raises(Refusal, match=r"pruned: expected a share from 0 to 1; got 1.5"):
        pruned(net, 1.5)
