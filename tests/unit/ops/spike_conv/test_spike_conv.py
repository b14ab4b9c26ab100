"""Convolution of spikes is torch's, and keeps bits."""

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn.synapses.spike_conv import SpikeConv2d
from ranvier.ops import spike_conv as op
from ranvier.ops.spike_conv import crossover
from ranvier.ops.spike_linear.crossover import Crossover

OPTIONS = [
    {"padding": 1},
    {"padding": 1, "bias": False, "stride": 2},
    {"padding": "same", "dilation": 2, "groups": 2},
    {"padding": "valid"},
    {"padding": 2, "padding_mode": "circular"},
    {"padding": "same", "kernel_size": (2, 3)},
    {"kernel_size": 1, "groups": 4, "out_channels": 8},
]


def spikes(dtype=torch.float32, last=False, density=0.3, graded=False, shape=(3, 2, 4, 7, 9)):
    x = (torch.rand(shape) < density).to(dtype)
    if graded:
        x = x * torch.randint(-2, 5, shape)
    if last:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2])
    return x


def pair(last=False, dtype=torch.float32, **options):
    sizes = {"in_channels": 4, "out_channels": 6, "kernel_size": 3} | options
    ours, torchs = SpikeConv2d(**sizes), ranvier.Conv2d(**sizes)
    torchs.load_state_dict(ours.state_dict())
    if last:
        ours, torchs = (layer.to(memory_format=torch.channels_last) for layer in (ours, torchs))
    return ours.to(dtype), torchs.to(dtype)


def everything(layer, x, amp=False):
    leaf = x.detach().requires_grad_()  # not a copy, whose layout might be another
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
        y = layer(leaf)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return y, *torch.autograd.grad(y, [leaf, *layer.parameters()], grad)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    from ranvier.ops.spike_conv import cpu
    from ranvier.ops.spike_linear import cpu as sums
    from ranvier.ops.spike_pack import cpu as packing

    def empty(shape, dtype):
        return torch.full(tuple(shape), torch.nan if dtype.is_floating_point else -1, dtype=dtype)

    for module in (cpu, sums, packing):
        monkeypatch.setattr(module, "empty", empty)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["channels-first", "channels-last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("graded", [False, True])
def test_outputs_gradients_dtypes_and_layouts_are_torchs(options, last, dtype, graded):
    ours, torchs = pair(last, dtype, **options)
    x = spikes(dtype, last, graded=graded)
    for amp in (False, *([True] if dtype == torch.float32 else [])):
        for a, b in zip(everything(ours, x, amp), everything(torchs, x, amp), strict=True):
            assert a.dtype == b.dtype and a.stride() == b.stride()
            torch.testing.assert_close(a, b)


LISTED = [
    {"padding": 1},
    {"padding": (1, 0), "stride": (2, 1), "dilation": (1, 2), "kernel_size": (3, 2), "bias": False},
    {"kernel_size": 1, "out_channels": 130},
]
WAYS = {"sparse": (1.0, 1.0), "dense": (-1.0, -1.0), "sparse forward": (1.0, -1.0), "sparse weight": (-1.0, 1.0)}


@pytest.mark.parametrize("options", LISTED, ids=str)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channels", [33, 64, 100])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_sums_over_active_indices_are_torchs_convolution(options, way, channels, density, monkeypatch):
    limits = Crossover(*WAYS[way])
    calls = []
    monkeypatch.setattr(op, "crossovers", lambda *sizes: calls.append(sizes) or limits)
    ours, torchs = pair(True, **{"in_channels": channels} | options)
    x = spikes(last=True, density=density, shape=(3, 2, channels, 7, 9))
    for a, b in zip(everything(ours, x), everything(torchs, x), strict=True):
        assert a.dtype == b.dtype and a.stride() == b.stride()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item() + 1e-6)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), torchs(x), rtol=1e-4, atol=1e-4)
    assert len(calls) == 2
    for dtype, amp in ((torch.float64, False), (torch.bfloat16, False), (torch.float32, True)):
        found = everything(ours.to(dtype), x.to(dtype), amp)
        for a, b in zip(found, everything(torchs.to(dtype), x.to(dtype), amp), strict=True):
            assert a.dtype == b.dtype
            tolerance = 1e-10 if dtype == torch.float64 else 2**-6
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * (b.abs().max().item() + 1e-3))


def test_whole_weights_give_exact_sums(monkeypatch):
    monkeypatch.setattr(op, "crossovers", lambda *sizes: Crossover(1.0, 1.0))
    ours, _ = pair(True, in_channels=64, padding=1, bias=False)
    ours.weight.data = torch.randint(-99, 99, ours.weight.shape).float().contiguous(memory_format=torch.channels_last)
    x = spikes(last=True, shape=(3, 2, 64, 7, 9))
    exact = nn.functional.conv2d(x.flatten(0, 1).double(), ours.weight.double(), padding=1)
    assert torch.equal(ours(x).flatten(0, 1).double(), exact)


def test_a_crossover_is_measured_and_small_layers_take_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    monkeypatch.setattr(crossover, "measured", lambda sizes, dtype: Crossover(0.3, 0.2))
    crossover._known.cache_clear()
    weight = torch.Size((128, 64, 3, 3))
    assert crossover.crossovers(1 << 15, weight, torch.float32) == (0.3, 0.2)
    assert crossover.crossovers(10, weight, torch.bfloat16) == crossover.DEFAULTS[torch.bfloat16]
    crossover._known.cache_clear()


def test_a_measurement_gives_densities_or_says_that_it_cannot_tell():
    found = crossover.measured((16, 32, 3, 3), torch.float32)
    assert found is None or all(0.0 <= density <= 1.0 for density in found)


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 4, 3, 3), (1, 2, 4, 65, 3), (0, 2, 4, 7, 9)])
def test_no_spikes_all_spikes_and_odd_sizes(density, shape):
    ours, torchs = pair()
    for a, b in zip(
        *(everything(layer, spikes(density=density, shape=shape)) for layer in (ours, torchs)), strict=True
    ):
        torch.testing.assert_close(a, b)


def kept(layer, x):
    """Bytes kept for backward beside the parameters."""
    found = {}
    own = {p.data_ptr() for p in layer.parameters()}

    def keep(t):
        if t.data_ptr() not in own:
            found[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = layer(x)
    assert y.requires_grad
    return sum(found.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [32, 31])
def test_a_sixteenth_of_the_floats_or_less_is_kept_for_backward(dtype, last, size):
    ours, torchs = pair(last, dtype, padding=1)
    x = spikes(dtype, last, shape=(4, 8, 4, size, size))
    floats = 4 * x.numel()
    assert 0 < kept(ours, x) <= floats / 32 + 512 <= floats / 16 and kept(torchs, x) >= x.nbytes
    graded = spikes(dtype, last, graded=True, shape=(4, 8, 4, size, size))
    assert kept(ours, graded) <= graded.numel() + 64
    wide, x = pair(last, dtype, in_channels=64, padding=1)[0], spikes(dtype, last, 0.01, shape=(2, 2, 64, size, size))
    assert 0 < kept(wide, x) <= 4 * x.numel() / 16  # with the counts of sparse pictures
    image = torch.randn(4, 8, 4, size, size).to(dtype)
    assert kept(ours, image) >= image.nbytes  # no spikes, which need all their bits


def test_other_numbers_are_refused_when_declared():
    layer = SpikeConv2d(4, 6, 3, declared=True)
    layer(spikes())
    for bad in (2 * spikes(), torch.randn(3, 2, 4, 7, 9), spikes() * torch.nan):
        for backend in ("fused", "reference"):
            with ranvier.backend(backend), pytest.raises(Refusal, match="SpikeConv2d: expected spikes, each 0 or 1"):
                layer(bad)
        with torch.no_grad(), pytest.raises(Refusal, match="SpikeConv2d: expected spikes"):
            layer(bad)
    assert "declared=True" in repr(layer)


def test_a_frozen_layer_keeps_nothing_of_its_input():
    layer = SpikeConv2d(4, 6, 3).requires_grad_(False)
    x = spikes().requires_grad_()
    assert kept(layer, x) <= x.nbytes and layer(x).requires_grad


def test_compiled_it_computes_the_same():
    ours, torchs = pair(padding=1)
    x = spikes()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    for a, b in zip(everything(compiled, x), everything(torchs, x), strict=True):
        torch.testing.assert_close(a, b)


def test_a_spiking_network_trains_as_with_torchs_layers():
    def net(conv):
        torch.manual_seed(0)
        return nn.Sequential(
            conv(4, 8, 3, padding=1), ranvier.LIF(), ranvier.MaxPool2d(2), conv(8, 8, 3), ranvier.LIF()
        )

    for a, b in zip(*(everything(net(c), 3 * spikes()) for c in (SpikeConv2d, ranvier.Conv2d)), strict=True):
        torch.testing.assert_close(a, b)
