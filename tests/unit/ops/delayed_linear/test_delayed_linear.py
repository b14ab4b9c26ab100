"""The kernels of a delayed linear layer against the reference, into memory full of NaN; on a GPU's kernels in the interpreter."""

import math
import os
import subprocess
import sys

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.ops.delayed_linear import Window, delayed_linear, reference, spectrum
from ranvier.ops.delayed_linear.shapes import spread

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KINDS = [("triangle", 0.0), ("rounded", 0.0), ("gaussian", 0.0), ("gaussian", 1.0), ("gaussian", 12.0)]
every_kind = pytest.mark.parametrize(("kind", "sigma"), KINDS)
PLACES = ["cpu", *(["cuda"] if torch.cuda.is_available() and not INTERPRETED else [])]
on_each = pytest.mark.parametrize("place", PLACES)
cpu_only = pytest.mark.skipif(INTERPRETED, reason="about the CPU's kernels")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Buffers hold NaN before they are written."""

    def empty(shape, dtype):
        return torch.full(tuple(shape), torch.nan if dtype.is_floating_point else 0, dtype=dtype)

    monkeypatch.setattr(spectrum.buffers, "empty", empty)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # a GPU rounds float32 as convolutions do
    if not INTERPRETED:
        from ranvier.ops.delayed_linear import cpu

        monkeypatch.setattr(cpu, "empty", empty)


def given(steps, samples, inputs, outputs, longest, density, graded, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(steps, samples, inputs, generator=generator) < density).double()
    if graded:
        x = x * torch.randn(x.shape, generator=generator)
    weight = torch.randn(outputs, inputs, generator=generator)
    delay = torch.rand(outputs, inputs, generator=generator) * longest
    delay[0], delay[-1, -1] = 0.0, float(longest)  # at the bounds and at whole numbers
    return x, weight, delay


def compared(x, weight, delay, sigma, kind, longest, lead=0, tail=0, dtype=torch.float32, place="cpu"):
    """Output and gradients of the kernels in dtype, and of the reference in float64."""
    found = []
    for backend, number in (("fused", dtype), ("reference", torch.float64)):
        wide = number if number.itemsize >= 4 else torch.float32
        leaves = [v.to(place, n).clone().requires_grad_() for v, n in ((x, number), (weight, wide), (delay, wide))]
        with ranvier.backend(backend):
            y = delayed_linear(
                *leaves, torch.tensor(sigma, device=place), kind=kind, longest=longest, lead=lead, tail=tail
            )
        gy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(place, y.dtype)
        found.append([y, *torch.autograd.grad(y, leaves, gy)])
    return found


def close(found, expected, tolerance=4e-6):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        scale = b.abs().max().clamp_min(1e-6) if b.numel() else 1.0
        assert ((a.double() - b.double()).abs() <= tolerance * scale).all()


@on_each
@every_kind
@pytest.mark.parametrize("density", [0.1] if INTERPRETED else [0.0, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("graded", [False, True], ids=["spikes", "graded"])
def test_kernels_equal_the_reference(kind, sigma, density, graded, place):
    steps, samples = (7, 3) if INTERPRETED else (23, 5)
    close(*compared(*given(steps, samples, 37, 19, 6, density, graded), sigma, kind, 6, place=place))
    if not INTERPRETED:
        close(*compared(*given(29, 18, 70, 9, 24, density, graded), sigma, kind, 24, 24, 3, place=place))


@pytest.mark.parametrize(
    ("steps", "samples", "inputs", "outputs", "longest"),
    [(1, 1, 1, 1, 0), (1, 1, 3, 2, 5), (9, 1, 65, 4, 3), (3, 33, 2, 33, 9), (40, 2, 5, 6, 37)],
)
@every_kind
def test_odd_sizes(steps, samples, inputs, outputs, longest, kind, sigma):
    if INTERPRETED and steps * samples > 50:
        pytest.skip("the interpreter takes its time")
    for density in (0.3, 1.0):
        close(*compared(*given(steps, samples, inputs, outputs, longest, density, True), sigma, kind, longest))


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4, 2, 0)])
def test_nothing_in_gives_zeros_out(shape):
    x, weight, delay = (
        torch.zeros(shape).requires_grad_(),
        torch.ones(5, shape[2], requires_grad=True),
        torch.ones(5, 1),
    )
    y = delayed_linear(x, weight, delay, torch.tensor(1.0), kind="gaussian", longest=4)
    assert y.shape == (*shape[:2], 5) and not y.any()
    gx, gweight = torch.autograd.grad(y.sum(), [x, weight])
    assert not gx.any() and not gweight.any()


@cpu_only
def test_many_steps_are_computed_in_several_stretches():
    close(*compared(*given(600, 2, 9, 8, 24, 0.6, False), 1.0, "gaussian", 24), tolerance=4e-6)


@cpu_only
@every_kind
def test_both_ways_to_compute_give_the_same_bits(kind, sigma, monkeypatch):
    """So a sequence in chunks has the bits of the whole, whichever way each chunk took."""
    from ranvier.ops.delayed_linear import cpu

    for graded in (False, True):
        x, weight, delay = (v.float() for v in given(31, 18, 40, 10, 24, 0.2, graded))
        found = []
        for by_spikes in (True, False):
            monkeypatch.setattr(cpu, "spikes_pay", lambda *_, answer=by_spikes: answer)
            found.append(cpu.forward(Window(kind, 24, 0, 0), x, weight, delay, torch.tensor(sigma), False)[0])
        assert torch.equal(*found)


@cpu_only
@pytest.mark.parametrize("sigma", [0.0, 0.23, 1.0, 3.0, 12.0, 100.0])
def test_the_taps_left_out_are_beyond_float32(sigma):
    """Each is below 2^-24 of the peak; all of them together change a synapse by less than 4e-7 of its weight."""
    from ranvier.ops.delayed_linear import cpu

    longest = 60
    delay = torch.linspace(0, longest, 977)[:, None].contiguous()
    window = Window("gaussian", longest, 0, 0)
    taps = cpu.taps_of(window, torch.tensor(sigma))
    first, made = cpu._taps(window, taps, torch.ones_like(delay), delay)
    dense = torch.zeros(len(delay), longest + 1 + taps.width, dtype=torch.float64)
    dense.scatter_(1, first[: len(delay)].long() + torch.arange(taps.width), made[: len(delay), 0].double())
    exact = spread(delay[:, 0].double(), torch.tensor(sigma, dtype=torch.float64), "gaussian", longest)
    left_out = (dense[:, : longest + 1] == 0) * exact
    assert (left_out.sum(1) < 4e-7).all()
    assert ((dense[:, : longest + 1] - exact).abs().sum(1) < 8e-7).all()  # with float32's own rounding


@pytest.mark.parametrize(("kind", "sigma"), [("gaussian", 0.5), ("triangle", 0.0)])
def test_the_references_gradients_are_those_of_finite_differences(kind, sigma):
    x, weight, delay = given(6, 2, 3, 2, 4, 0.5, True)
    delay = torch.rand(2, 3, generator=torch.Generator().manual_seed(3)) * 3.4 + 0.3
    leaves = [v.double().requires_grad_() for v in (x, weight, delay, torch.tensor(sigma))]
    if kind == "triangle":
        leaves[3].requires_grad_(False)

    def function(*v):
        return reference.delayed_linear(*v, kind, 4, 1, 2)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_rounded_delays_have_the_gradient_of_linear_interpolation():
    x, weight, delay = given(12, 2, 5, 4, 6, 0.4, False)
    found = []
    for kind in ("rounded", "triangle"):
        d = delay.double().requires_grad_()
        y = reference.delayed_linear(x, weight.double(), d, torch.tensor(0.0), kind, 6, 0, 0)
        found.append((y, torch.autograd.grad(y, d, torch.ones_like(y))[0]))
    assert torch.equal(found[0][1], found[1][1]) and not torch.equal(found[0][0], found[1][0])


@on_each
def test_half_precision_comes_back_as_it_came(place):
    for dtype in (torch.float16, *([] if INTERPRETED else [torch.bfloat16])):  # the interpreter has no bfloat16
        x, weight, delay = given(9, 2, 7, 5, 4, 0.4, False)
        found, expected = compared(x, weight, delay, 1.0, "gaussian", 4, dtype=dtype, place=place)
        assert found[0].dtype == dtype and found[1].dtype == dtype and found[2].dtype == torch.float32
        close(found, expected, tolerance=2e-2)


def test_weights_without_gradients_and_x_without_are_left_alone():
    x, weight, delay = (v.float() for v in given(9, 2, 7, 5, 4, 0.4, False))
    y = delayed_linear(x, weight, delay.requires_grad_(), torch.tensor(1.0), kind="gaussian", longest=4)
    assert torch.autograd.grad(y.sum(), delay)[0].any() and x.grad is None
    y = delayed_linear(x.requires_grad_(), weight, delay.detach(), torch.tensor(1.0), kind="gaussian", longest=4)
    assert torch.autograd.grad(y.sum(), x)[0].any()


def test_a_width_set_anew_before_backward_does_not_matter():
    x, weight, delay = (v.float().requires_grad_() for v in given(9, 2, 7, 5, 4, 0.4, False))
    found = []
    for later in (0.0, 9.0):
        sigma = torch.tensor(0.0)
        y = delayed_linear(x, weight, delay, sigma, kind="gaussian", longest=4)
        sigma.data.fill_(later)
        found.append(torch.autograd.grad(y.sum(), [x, weight, delay]))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@cpu_only
def test_delays_that_are_no_numbers_stay_in_memory_and_show():
    x, weight, delay = (v.float() for v in given(9, 2, 7, 5, 4, 0.4, False))
    delay[1, 1] = math.nan
    for kind in ("gaussian", "triangle", "rounded"):
        y = delayed_linear(x, weight, delay, torch.tensor(1.0), kind=kind, longest=4)
        assert y[..., 1].isnan().any() and not y[..., 2].isnan().any()


def test_a_second_derivative_is_refused_by_the_kernels():
    x, weight, delay = (v.float().requires_grad_() for v in given(5, 2, 3, 2, 2, 0.5, False))
    y = delayed_linear(x, weight, delay, torch.tensor(1.0), kind="gaussian", longest=2)
    with pytest.raises(Refusal, match="delayed_linear: expected a first derivative; got create_graph=True"):
        torch.autograd.grad(y.sum(), weight, create_graph=True)


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_the_gpus_kernels_equal_the_reference_in_the_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
