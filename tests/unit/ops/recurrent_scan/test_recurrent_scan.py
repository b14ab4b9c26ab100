"""Recurrent kernels against the reference: the CPU's, and the loop and the graphs of a GPU, which run here on CPU tensors.

Where a GPU is, they run there as well; Triton's kernels also run in its interpreter, in a process of its own.
"""

import copy
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.ops import recurrent_scan
from ranvier.ops.native import NUMBERS
from ranvier.ops.recurrent_scan import cpu, gpu

FUSED = Path(__file__).parents[3] / "contract" / "test_fused.py"
spec = importlib.util.spec_from_file_location("ranvier_test_fused", FUSED)
fused = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fused)

INTERPRETED = fused.INTERPRETED
MODES = ["interpreted"] if INTERPRETED else ["cpu", "loop", "graphs", *(["cuda"] if torch.cuda.is_available() else [])]
HERE = ["cpu"] if not INTERPRETED else ["interpreted"]
STEPS, BATCH, WIDTH = 11, 3, 5
every = pytest.mark.parametrize("cls", fused.NEURONS.values(), ids=fused.NEURONS)
two = pytest.mark.parametrize("cls", [ranvier.LIF, ranvier.AdaptiveLIF])


@pytest.fixture(params=MODES)
def mode(request, monkeypatch):
    """Which way the kernels run. All memory that they get is full of NaN."""
    if request.param in ("loop", "graphs"):
        monkeypatch.setattr(recurrent_scan, "_device", lambda _: gpu)
    if request.param == "graphs":
        monkeypatch.setattr(gpu, "captures", lambda x: True)
        monkeypatch.setattr(gpu, "capture", lambda loop: loop)
        monkeypatch.setattr(gpu, "_graphs", gpu._Graphs())
        monkeypatch.setattr(gpu, "LONGEST", 4)
    given = cpu.empty

    def poisoned(shape, dtype):
        block = given(shape, dtype)
        return block.fill_(torch.nan) if dtype.is_floating_point else block.view(torch.uint8).fill_(255).view(dtype)

    monkeypatch.setattr(cpu, "empty", poisoned)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what torch.empty gives with NaN
    yield request.param
    torch.use_deterministic_algorithms(False)


def place(mode):
    return torch.device("cuda" if mode == "cuda" else "cpu")


def made(cls, mode, dtype=torch.float64, width=WIDTH, bias=True, scale=0.5, **options):
    """A recurrent layer all of whose parameters are learnt and differ."""
    neuron = fused.made(cls, "cpu", dtype, (width,), **options)
    synapse = nn.Linear(width, width, bias=bias).to(dtype)
    with torch.no_grad():
        synapse.weight.normal_(std=scale / width**0.5)
    return ranvier.Recurrent(neuron, synapse).to(place(mode))


def driven(layer, dtype=torch.float64, steps=STEPS, batch=BATCH, features=(WIDTH,)):
    """Input that makes the neurons fire, and the state after some steps, in which they have just done so."""
    x, state = fused.driven(layer.neuron, features, steps, batch, dtype)
    z = (torch.rand(batch, *features) < 0.4).to(state[next(iter(layer.neuron.states))])
    return x, {**state, "z": z}


def run(layer, x, state, backend="fused"):
    with ranvier.backend(backend):
        y, after, course = ranvier.run(layer, x, state, record=layer.records)
    states = layer.neuron.states
    finals = {f"final {k}": after[k] for k in (*states, "z")}
    return {"y": y, **finals, **{f"course of {k}": course[k] for k in states}}


def leaves(layer, x, state):
    x = x.detach().clone().requires_grad_()
    state = {k: s.detach().clone().requires_grad_(s.is_floating_point()) for k, s in state.items()}
    return x, state, [x, *(state[k] for k in (*layer.neuron.states, "z")), *layer.parameters()]


def compared(layer, x, state, tolerance=1e-9, part=""):
    """Outputs and gradients of both ways, once they agree in every sample in which all spikes do."""
    results = []
    for backend in ("fused", "reference"):
        leaf, start, wanted = leaves(layer, x, state)
        results.append((run(layer, leaf, start, backend), wanted))
    (found, _), (expected, _) = results
    near = (found["y"] - expected["y"]).abs() <= 1e-3 * (1 + expected["y"].abs())
    same = near.transpose(0, 1).flatten(1).all(1)
    assert not x.numel() or same.double().mean() >= 0.6
    same = same.reshape(-1, *[1] * (x.ndim - 2)).to(x.dtype)
    torch.manual_seed(1)
    weights = {k: torch.randn_like(v) * same for k, v in expected.items() if k.startswith(part)}
    for k in found:
        assert found[k].dtype == expected[k].dtype
        fused.agree(found[k] * same, expected[k] * same, tolerance)
    grads = [fused.gradients({k: f[k] for k in weights}, weights, wanted) for f, wanted in results]
    for actual, other in zip(*grads, strict=True):
        fused.agree(actual, other, 10 * tolerance)
    return grads[0]


@every
@pytest.mark.parametrize("dtype", [torch.float32] if INTERPRETED else [torch.float32, torch.float64], ids=str)
def test_every_step_is_that_of_the_reference_from_the_kernels_own_state(cls, dtype, mode):
    layer = made(cls, mode, dtype)
    x, state = driven(layer, dtype)
    with torch.no_grad():
        whole = run(layer, x, state)
        before = {
            k: torch.cat([state[k][None], whole[f"course of {k}"][:-1]]).flatten(0, 1) for k in layer.neuron.states
        }
        before["z"] = torch.cat([state["z"][None], whole["y"][:-1]]).flatten(0, 1)
        if layer.neuron.random:
            t = torch.arange(STEPS, device=x.device)[:, None]
            before |= {"seed": state["seed"].expand(STEPS, -1).flatten(), "step": (state["step"] + t).flatten()}
        single = x.flatten(0, 1)[None]
        with fused.Ties(single.shape[1:]) as seen:
            expected = run(layer, single, before, "reference")
    same = fused.close(whole["y"].flatten(0, 1), expected["y"][0], dtype)
    for k in layer.neuron.states:
        same &= fused.close(whole[f"course of {k}"].flatten(0, 1), expected[f"final {k}"], dtype)
    assert (same | seen.ties.to(same.device)).all() and (~same).double().mean() < 0.02
    assert torch.equal(whole["final z"], whole["y"][-1])


@every
def test_gradients_are_those_of_the_reference(cls, mode):
    dtype = torch.float32 if INTERPRETED else torch.float64
    layer = made(cls, mode, dtype)
    x, state = driven(layer, dtype)
    tolerance = 1e-4 if INTERPRETED else 1e-9
    grads = compared(layer, x, state, tolerance)
    assert all(g.isfinite().all() for g in grads)


@two
def test_float32_gradients_are_as_near_the_truth_as_torchs(cls, mode):
    layer = made(cls, mode, torch.float32)
    compared(layer, *driven(layer, torch.float32), 1e-4)


@pytest.mark.parametrize("width", [1, 7, 8, 16, 17, 63, 64, 65, 130, 257, 320] if not INTERPRETED else [17])
@pytest.mark.parametrize(("steps", "batch"), [(9, 1), (1, 3), (6, 70)] if not INTERPRETED else [(5, 3)])
def test_sizes_around_vectors_tiles_and_chunks(width, steps, batch, mode):
    for scale in (0.5, 0.0):
        layer = made(ranvier.LIF, mode, width=width, scale=scale)
        compared(layer, *driven(layer, steps=steps, batch=batch, features=(width,)))


@pytest.mark.parametrize(("features", "shape"), [((4, 5), (4, 1)), ((2, 3, 5), (3, 5)), ((20, 5), (BATCH, 1, 5))])
def test_more_axes_and_parameters_along_some_of_them(features, shape, mode):
    neuron = fused.made(ranvier.CuBaLIF, "cpu", torch.float64, shape=shape)
    layer = ranvier.Recurrent(neuron, nn.Linear(5, 5).double()).to(place(mode))
    compared(layer, *driven(layer, features=features))


@pytest.mark.parametrize(
    "options", [{"temporal_grad": "none"}, {"detach_reset": True}, {"reset_mode": "subtract"}], ids=str
)
@two
def test_options_of_the_neuron(cls, options, mode):
    neuron = fused.made(cls, "cpu", torch.float32, (WIDTH,), **options).double()
    layer = ranvier.Recurrent(neuron, nn.Linear(WIDTH, WIDTH, bias=False).double()).to(place(mode))
    grads = compared(layer, *driven(layer))
    assert grads[0].any()
    if options.get("temporal_grad") == "none":
        x, state = driven(layer)
        x.requires_grad_()
        (g,) = torch.autograd.grad(run(layer, x, state)["y"][-1].sum(), x)
        assert not g[:-1].any() and g[-1].any()


@pytest.mark.parametrize("part", ["y", "final z", "final v", "course of v"])
def test_a_loss_of_one_part_alone(part, mode):
    layer = made(ranvier.LIF, mode)
    compared(layer, *driven(layer), part=part)


@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (3, 0)])
def test_no_steps_and_no_samples(steps, batch, mode):
    layer = made(ranvier.CuBaLIF, mode)
    compared(layer, *driven(layer, steps=steps, batch=batch))


@pytest.mark.parametrize("level", [-1e3, 1e3])
def test_no_spikes_and_all_spikes(level, mode):
    layer = made(ranvier.LIF, mode)
    x, state = driven(layer)
    y = run(layer, torch.full_like(x, level), state)["y"]
    assert torch.equal(y, torch.full_like(y, float(level > 0)))
    compared(layer, torch.full_like(x, level), state)


def test_parts_that_learn_nothing_get_no_gradient(mode):
    layer = made(ranvier.LIF, mode)
    x, state = driven(layer)
    assert compared(layer, x, state)[0].any()
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name == "synapse.weight")
    y = run(layer, x, state)["y"]
    y.backward(torch.ones_like(y))
    assert layer.synapse.weight.grad.any() and layer.synapse.bias.grad is None
    with torch.no_grad():
        assert torch.equal(run(layer, x, state)["y"], y)


def test_backward_twice_gives_the_same(mode):
    layer = made(ranvier.CuBaLIF, mode)
    leaf, start, wanted = leaves(layer, *driven(layer))
    y = run(layer, leaf, start)["y"]
    first, second = (torch.autograd.grad(y.sum(), wanted, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("cls", [ranvier.LIF, ranvier.LeakyIntegrator, ranvier.TernaryLIF, ranvier.StochasticLIF])
@pytest.mark.parametrize("cuts", [(1, 9, 10), (7, 13), (16, 4)])
def test_chunks_give_the_bits_of_the_whole(cls, cuts, mode):
    if mode == "interpreted" and cls is not ranvier.LIF:
        pytest.skip("one neuron is enough here")
    layer = made(cls, mode, torch.float32, 40)
    x, state = driven(layer, torch.float32, 20, 20, (40,))
    with torch.no_grad():
        whole, later, parts = run(layer, x, state), state, []
        for chunk in x.split(cuts):
            y, later = ranvier.run(layer, chunk, later)
            parts.append(y)
    assert torch.equal(torch.cat(parts), whole["y"])
    assert all(torch.equal(later[k], whole[f"final {k}"]) for k in (*layer.neuron.states, "z"))


def test_gradients_of_chunks_are_those_of_the_whole(mode):
    layer = made(ranvier.CuBaLIF, mode)
    x, state = driven(layer)
    weight, results = torch.randn_like(x), []
    for cuts in ((STEPS,), (4, 7)):
        leaf, start, wanted = leaves(layer, x, state)
        later, loss = start, 0.0
        for chunk, w in zip(leaf.split(cuts), weight.split(cuts), strict=True):
            y, later = ranvier.run(layer, chunk, later)
            loss = loss + (y * w).sum()
        results.append(torch.autograd.grad(loss, wanted))
    for a, b in zip(*results, strict=True):
        fused.agree(a, b, 1e-10)


@pytest.mark.parametrize("mode", HERE, indirect=True)
@pytest.mark.parametrize("cls", [ranvier.LIF, ranvier.LeakyIntegrator, ranvier.TernaryLIF])
def test_many_spikes_are_multiplied_and_few_added_up_with_the_same_result(cls, mode, monkeypatch):
    found = []
    for dense in (-1.0, 2.0):
        monkeypatch.setattr(cpu, "crossovers", lambda _, dense=dense: (dense, dense))
        torch.manual_seed(0)
        layer = made(cls, mode, width=70)
        found.append(compared(layer, *driven(layer, steps=7, batch=20, features=(70,))))
    for a, b in zip(*found, strict=True):
        fused.agree(a, b, 1e-10)


@pytest.mark.skipif(INTERPRETED, reason="this is the CPU's choice")
@pytest.mark.parametrize(("width", "limits"), [(64, (0.45, 0.35)), (256, (0.45, 0.45)), (1024, (0.45, 0.45))])
def test_the_crossover_is_the_one_that_was_measured(width, limits, monkeypatch):
    assert cpu.crossovers(width) == limits
    layer = ranvier.Recurrent(ranvier.LIF(tau=1.0), nn.Linear(width, width, bias=False))
    nn.init.zeros_(layer.synapse.weight)
    x, summed = torch.zeros(3, 16, width), []
    kernel = cpu.kernels.weight_gradient(NUMBERS[torch.float32])
    monkeypatch.setattr(
        cpu.kernels, "weight_gradient", lambda number: lambda *given: [summed.append(1), kernel(*given)]
    )
    for density, is_summed in ((0.3, True), (0.9, False)):
        x[..., : int(density * width)] = 9.0
        y = layer(x)
        y.sum().backward()
        assert bool(summed) == is_summed
        summed.clear()


@pytest.mark.skipif(INTERPRETED, reason="threads are the CPU kernels'")
def test_threads_give_the_bits_of_one():
    layer = made(ranvier.LIF, "cpu", torch.float32, 200)
    x, state = driven(layer, torch.float32, 12, 80, (200,))
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        leaf, start, _ = leaves(layer, x, state)
        y = run(layer, leaf, start)["y"]
        found.append([y, *torch.autograd.grad(y.sum(), [leaf, layer.synapse.weight])])
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bits_are_computed_in_float32(dtype, mode):
    layer = made(ranvier.LIF, mode, torch.float32)
    x, state = driven(layer, torch.float32)
    x = x.to(dtype)
    found, wide = run(layer, x, state), run(layer, x.float(), state)
    assert found["y"].dtype == dtype and torch.equal(found["y"].float(), wide["y"])
    assert torch.equal(found["final v"], wide["final v"]) and found["final v"].dtype == torch.float32
    half = copy.deepcopy(layer).to(dtype)
    leaf = x.clone().requires_grad_()
    y = run(half, leaf, state)["y"]
    y.sum().backward()
    assert leaf.grad.dtype == dtype and half.synapse.weight.grad.dtype == dtype and leaf.grad.any()
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        leaf = x.float().requires_grad_()
        y = run(layer, leaf, state)["y"]
        y.sum().backward()
    assert torch.equal(y, wide["y"]) and leaf.grad.isfinite().all()


def test_the_derivative_of_a_smooth_neuron_is_that_of_its_output(mode):
    if mode == "interpreted":
        pytest.skip("too slow there")
    layer = made(ranvier.LeakyIntegrator, mode, width=3)
    x, state = driven(layer, steps=4, batch=2, features=(3,))
    wanted = [
        t.detach().requires_grad_() for t in (x, state["v"], state["z"], layer.synapse.weight, layer.synapse.bias)
    ]

    def of(backend):
        def function(x, v, z, weight, bias):
            given = {"synapse.weight": weight, "synapse.bias": bias}
            with ranvier.backend(backend):
                return torch.func.functional_call(ranvier_run, {f"layer.{k}": p for k, p in given.items()}, (x, v, z))

        return function

    class Run(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x, v, z):
            y, after = ranvier.run(self.layer, x, {"v": v, "z": z})
            return y, after["v"], after["z"]

    ranvier_run = Run()
    assert torch.autograd.gradcheck(of("fused"), wanted) and torch.autograd.gradcheck(of("reference"), wanted)
    assert torch.autograd.gradgradcheck(of("reference"), wanted)


def test_weights_of_other_features_and_second_derivatives_are_refused(mode):
    layer = ranvier.Recurrent(ranvier.LIF(), nn.Linear(4, 4)).to(place(mode))
    x = torch.randn(5, 2, 6, device=place(mode))
    with pytest.raises(Refusal, match=r"recurrent weights: expected \[6, 6\].*got \(4, 4\)"):
        layer(x)
    x = torch.randn(5, 2, 4, device=place(mode), requires_grad=True)
    with pytest.raises(Refusal, match="create_graph=True"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_kernels_keep_to_all_of_this_in_the_interpreter():
    pytest.importorskip("triton")
    words = "reference or sizes or chunks or sixteen or loss or options"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", words]
    found = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
