"""Sums over active indices and the dense product are both what plain torch gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.ops import spike_linear as op
from ranvier.ops.spike_linear import crossover, reference, spike_linear
from ranvier.ops.spike_linear.crossover import Crossover, crossing, crossovers
from ranvier.ops.spike_pack.spikes import Spikes

WAYS = {"sparse": Crossover(1.0, 1.0), "dense": Crossover(-1.0, -1.0), "sparse weight": Crossover(-1.0, 1.0)}
WAYS["sparse forward"] = Crossover(1.0, -1.0)
SIZES = [(1, 1, 1), (5, 7, 3), (33, 64, 16), (64, 70, 200), (9, 130, 20), (2100, 40, 144)]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Each way, at any density, in memory full of NaN."""
    from ranvier.ops.spike_linear import cpu
    from ranvier.ops.spike_pack import cpu as packing

    def empty(shape, dtype):
        return torch.full(tuple(shape), torch.nan if dtype.is_floating_point else -1, dtype=dtype)

    for module in (cpu, packing):
        monkeypatch.setattr(module, "empty", empty)
    monkeypatch.setattr(op, "crossovers", lambda *sizes: WAYS[request.param])
    return request.param


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    monkeypatch.setattr(op, "SMALL", 0)


def spikes(rows, inputs, density=0.1, graded=False, dtype=torch.float32):
    x = (torch.rand(rows, inputs) < density).to(dtype)
    return x * torch.randint(-3, 4, x.shape) if graded else x


def everything(function, x, weight, bias, grad):
    """Output and gradients."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, bias) if t is not None]
    y = function(*leaves, *([None] if bias is None else []))
    return y, *torch.autograd.grad(y, leaves, grad.to(y.dtype))


def agree(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(b.abs().max().item(), 1.0))


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_and_gradients_are_those_of_torch(rows, inputs, outputs, graded, dtype, way):
    x = spikes(rows, inputs, graded=graded, dtype=dtype)
    weight, bias = torch.randn(outputs, inputs, dtype=dtype), torch.randn(outputs, dtype=dtype)
    grad = torch.randn(rows, outputs, dtype=dtype)
    for b in (bias, None):
        found = everything(spike_linear, x, weight, b, grad)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        agree(found, everything(reference.spike_linear, x, weight, b, grad), tolerance)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_no_spikes_and_all_spikes(density, way):
    x, weight, grad = spikes(40, 70, density), torch.randn(30, 70), torch.randn(40, 30)
    bias = torch.randn(30)
    agree(
        everything(spike_linear, x, weight, bias, grad), everything(reference.spike_linear, x, weight, bias, grad), 1e-5
    )


def test_sums_of_whole_weights_are_exact(way):
    """No product rounds and no order of sums matters."""
    x, weight = spikes(50, 300, 0.3), torch.randint(-1000, 1000, (70, 300)).float()
    grad = torch.randint(-9, 9, (50, 70)).float()
    found = everything(spike_linear, x, weight, None, grad)
    double = everything(reference.spike_linear, x.double(), weight.double(), None, grad.double())
    assert all(torch.equal(a.double(), b) for a, b in zip(found, double, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bits_in_and_out_are_rounded_once(dtype, monkeypatch):
    monkeypatch.setattr(op, "crossovers", lambda *sizes: WAYS["sparse"])
    x, weight, bias = spikes(40, 70, dtype=dtype), torch.randn(30, 70).to(dtype), torch.randn(30).to(dtype)
    y = spike_linear(x, weight, bias)
    assert torch.equal(y, reference.spike_linear(x.float(), weight.float(), bias.float()).to(dtype))
    grad = torch.randn(40, 30)
    for a, b in zip(
        everything(spike_linear, x, weight, bias, grad),
        everything(reference.spike_linear, x.float(), weight.float(), bias.float(), grad.to(dtype)),
        strict=True,
    ):
        assert a.dtype == dtype
        torch.testing.assert_close(a.float(), b, rtol=2**-6, atol=2**-6 * b.abs().max().item())


@pytest.mark.parametrize("limits", WAYS.values(), ids=WAYS)
def test_autocast_gives_its_own_dtype(limits, monkeypatch):
    monkeypatch.setattr(op, "crossovers", lambda *sizes: limits)
    x, weight, bias = spikes(40, 70), torch.randn(30, 70), torch.randn(30)

    def cast(function):
        def inside(*given):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return function(*given)

        return inside

    grad = torch.randn(40, 30)
    agree(
        everything(cast(spike_linear), x, weight, bias, grad),
        everything(cast(reference.spike_linear), x, weight, bias, grad),
        2**-6,
    )


def test_events_give_what_their_dense_tensor_gives(way):
    shape = (6, 4, 70)
    x = Spikes.from_events(*(torch.randint(size, (300,)) for size in shape), shape)  # some are there twice
    weight, bias = torch.randn(30, 70, requires_grad=True), torch.randn(30, requires_grad=True)
    grad = torch.randn(6, 4, 30)
    y, expected = spike_linear(x, weight, bias), reference.spike_linear(x.dense(), weight, bias)
    found = torch.autograd.grad(y, (weight, bias), grad)
    agree((y, *found), (expected, *torch.autograd.grad(expected, (weight, bias), grad)), 1e-5)
    values = Spikes(x.pointer, x.index, shape, torch.rand(300))
    agree((spike_linear(values, weight),), (reference.spike_linear(values.dense(), weight, None),), 1e-5)


def test_what_is_no_spikes_takes_torchs_way_or_is_refused():
    weight = torch.randn(5, 8)
    for value in (0.5, float("nan"), 200.0):
        x = spikes(3, 8)
        x[1, 2] = value
        expected = reference.spike_linear(x, weight, None)
        torch.testing.assert_close(spike_linear(x, weight), expected, equal_nan=True, rtol=0, atol=0)
        for backend in ("fused", "reference"):
            with (
                ranvier.backend(backend),
                pytest.raises(Refusal, match=r"layer: expected spikes, each 0 or 1.*declared"),
            ):
                spike_linear(x, weight, declared=True, name="layer")
    with pytest.raises(Refusal, match=r"got 2 and 0 other numbers"):
        spike_linear(torch.tensor([[2.0, 0.0]]), torch.ones(1, 2), declared=True)
    graded = Spikes.from_dense(torch.full((1, 1, 2), 3.0))
    with pytest.raises(Refusal, match=r"got 3 and 1 other numbers"):
        spike_linear(graded, torch.ones(1, 2), declared=True)


@pytest.mark.parametrize("density", [0.005, 0.2])
def test_backward_keeps_bits_or_indices_and_no_numbers(density):
    x, weight = spikes(1000, 640, density), torch.randn(64, 640, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        spike_linear(x, weight)
    size = sum(t.nbytes for t in kept if t.shape != weight.shape)
    assert 0 < size <= x.nbytes / 32 + 4 * 1000
    assert not any(t.shape == x.shape for t in kept)


def test_the_reference_can_be_derived_twice_and_the_kernels_refuse():
    x, weight = spikes(4, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    x.requires_grad_()
    with ranvier.backend("reference"):
        assert torch.autograd.gradcheck(spike_linear, (x, weight)) and torch.autograd.gradgradcheck(
            spike_linear, (x, weight)
        )
    (g,) = torch.autograd.grad(spike_linear(x, weight).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_a_small_layer_is_torchs_and_refuses_all_the_same(monkeypatch):
    monkeypatch.setattr(op, "SMALL", 1 << 20)
    x, weight = spikes(4, 6), torch.randn(3, 6, requires_grad=True)
    y = spike_linear(x, weight, declared=True)
    assert torch.equal(y, reference.spike_linear(x, weight, None)) and "Function" not in type(y.grad_fn).__name__
    with pytest.raises(Refusal, match="spike_linear: expected spikes"):
        spike_linear(x + 0.5, weight, declared=True)


# which way


def test_a_line_through_two_times_meets_the_dense_time():
    assert crossing(10.0, {0.1: 2.0, 0.2: 4.0}) == 0.5
    assert crossing(1.0, {0.1: 2.0, 0.2: 4.0}) == 0.05
    assert crossing(100.0, {0.1: 2.0, 0.2: 4.0}) == 1.0 and crossing(0.0, {0.1: 2.0, 0.2: 4.0}) == 0.0
    assert crossing(3.0, {0.1: 2.0, 0.2: 2.0}) == 1.0 and crossing(1.0, {0.1: 2.0, 0.2: 2.0}) == 0.0


RECORDED = json.loads((Path(__file__).parent / "recorded_times.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", RECORDED["rows"], ids=lambda r: f"{r['what']} {r['inputs']}-{r['outputs']}")
def test_the_choice_is_never_worse_than_the_better_one_by_a_fifth(row):
    """On times that were measured: the crossover found from two densities, as on a user's machine, and all others."""
    sparse = {float(d): t for d, t in row["sparse"].items()}
    limit = crossing(row["dense"], {d: sparse[d] for d in crossover.DENSITIES})
    for density, time in sparse.items():
        chosen = time if density <= limit else row["dense"]
        assert chosen <= 1.2 * min(time, row["dense"]), density


def test_a_crossover_is_measured_once_and_kept_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    crossover._known.cache_clear()
    calls = []

    def measured(*sizes):
        calls.append(sizes)
        return Crossover(0.1, 0.2)

    monkeypatch.setattr(crossover, "measured", measured)
    for rows in (12800, 25600):
        assert crossovers(rows, 700, 256, torch.float32) == (0.1, 0.2)
    crossover._known.cache_clear()  # as in another process
    assert crossovers(12800, 720, 256, torch.float32) == (0.1, 0.2) and len(calls) == 1
    (path,) = (tmp_path / "kernels").glob("spike-crossover-*.json")
    path.write_text("broken")
    crossover._known.cache_clear()
    assert crossovers(12800, 700, 256, torch.float32) == (0.1, 0.2) and len(calls) == 2
    assert crossovers(12800, 700, 256, torch.float64) == (0.1, 0.2) and len(calls) == 3
    crossover._known.cache_clear()


def test_small_layers_and_deterministic_ones_take_the_default(monkeypatch):
    monkeypatch.setattr(crossover, "measured", None)
    assert crossovers(10, 700, 256, torch.float32) == crossover.DEFAULT
    torch.use_deterministic_algorithms(True)
    try:
        assert crossovers(12800, 700, 256, torch.float32) == crossover.DEFAULT
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_measurement_gives_densities_or_says_that_it_cannot_tell():
    found = crossover.measured(64, 32, torch.float32)
    assert found is None or all(0.0 <= density <= 1.0 for density in found)
    steady = {-1.0: [10.0] * 4, 0.0: [1.0] * 4, 0.1: [4.0] * 4}
    assert crossover.agreed(steady) == 0.3
    assert crossover.agreed(steady | {-1.0: [10.0, 12.0, 10.0, 20.0]}) == 0.3
    assert crossover.agreed(steady | {-1.0: [10.0, 14.0, 10.0, 20.0]}) is None
    assert crossover.agreed(steady | {-1.0: [90.0] * 4}) is None  # no density at all can be right


def test_what_is_unsteady_is_neither_used_nor_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    monkeypatch.setattr(crossover, "measured", lambda *sizes: None)
    crossover._known.cache_clear()
    assert crossovers(12800, 700, 256, torch.float32) == crossover.DEFAULT
    assert not list((tmp_path / "kernels").glob("spike-*"))
    crossover._known.cache_clear()


def test_a_gpus_way_keeps_bits_and_is_right_in_tritons_interpreter():
    pytest.importorskip("triton")
    program = """
import torch
import ranvier.ops.spike_linear
from ranvier.nn.synapses.spike_conv import SpikeConv2d
from ranvier.nn.synapses.spike_linear import SpikeLinear
from ranvier.ops.spike_pack.spikes import Spikes
torch.manual_seed(0)
ranvier.ops.spike_linear.SMALL = 0
x = (torch.rand(3, 2, 70) < 0.3).float().requires_grad_()
layer = SpikeLinear(70, 9)
plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
def same(y, plain, *leaves):
    grad = torch.randn_like(y)
    for a, b in zip((y, *torch.autograd.grad(y, leaves, grad)), (plain, *torch.autograd.grad(plain, leaves, grad))):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
same(layer(x), plain, x, layer.weight, layer.bias)
torch.testing.assert_close(layer(Spikes.from_dense(x.detach())), layer(x), rtol=1e-5, atol=1e-5)
conv, picture = SpikeConv2d(4, 3, 3), (torch.rand(3, 2, 4, 7, 7) < 0.3).float().requires_grad_()
plain = torch.nn.functional.conv2d(picture.flatten(0, 1), conv.weight, conv.bias).unflatten(0, (3, 2))
same(conv(picture), plain, picture, conv.weight)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]


@pytest.mark.parametrize("density", [0.01, 0.1, 0.9])
def test_two_threads_share_the_work(density, monkeypatch):
    monkeypatch.setattr(op, "crossovers", lambda *sizes: WAYS["sparse"])
    x, weight, grad = spikes(3000, 300, density), torch.randn(200, 300), torch.randn(3000, 200)
    one = everything(spike_linear, x, weight, None, grad)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = everything(spike_linear, x, weight, None, grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], two[0]) and torch.equal(one[2], two[2])  # each sum has its own thread and its order
