"""Moments of channels and lines added to them: the kernels against plain torch."""

import os
import subprocess
import sys

import pytest
import torch

import ranvier
from ranvier.compile import plan
from ranvier.ops.channel_moments import add_lines_, channel_moments, reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SHAPES = [
    *((1, 1, 1), (3, 2, 5), (1, 7, 300), (70, 5, 16), (9, 131, 33), (257, 1, 3), (2, 300, 17)),
    *((2, 3, 4, 15), (2, 3, 4, 16), (2, 3, 1, 17), (5, 2, 3, 4, 4), (1, 2, 3, 30, 41), (3, 1, 33, 1, 1)),
]
shapes = pytest.mark.parametrize("shape", SHAPES[:: 4 if INTERPRETED else 1], ids=str)


def line(shape, dtype=torch.float32):
    return torch.randn(shape[2], dtype=dtype), torch.randn(shape[2], dtype=dtype)


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("away", [0.0, 100.0])
def test_moments_are_those_of_torch_also_far_from_zero(shape, dtype, away):
    x = (torch.randn(shape) + away * torch.arange(shape[2]).reshape(-1, *[1] * (len(shape) - 3))).to(dtype)
    mean, var = channel_moments(x)
    want_mean, want_var = reference.channel_moments(x.double())
    assert mean.shape == var.shape == (shape[2],) and mean.dtype == (dtype if dtype == torch.float64 else torch.float32)
    assert torch.allclose(mean.double(), want_mean, rtol=1e-6, atol=1e-6)
    assert torch.allclose(var.double(), want_var, rtol=2e-5, atol=1e-6)


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_lines_are_added_in_place(shape, dtype):
    x, g = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    offset, slope = line(shape)
    want = reference.add_lines_(g.double(), x.double(), offset.double(), slope.double())
    assert add_lines_(g, x, offset, slope) is g
    cut_off = 2.0 if INTERPRETED and dtype == torch.bfloat16 else 1.0  # its store does not round
    assert torch.allclose(g.double(), want, rtol=cut_off * 2**-8 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 3, 4, 20)], ids=str)
def test_one_step_repeated_and_views(shape):
    x = torch.randn(shape)
    once = x[:1].expand(shape)
    for view in (once, x.transpose(0, 1), torch.stack([x, x], -1)[..., 0], torch.cat([x, x])[2:7]):
        for got, want in zip(channel_moments(view), reference.channel_moments(view.double()), strict=True):
            assert torch.allclose(got.double(), want, rtol=1e-5, atol=1e-6)
        g, (offset, slope) = torch.randn(view.shape), line(view.shape)
        want = reference.add_lines_(g.clone(), view, offset, slope)
        assert torch.allclose(add_lines_(g, view, offset, slope), want, rtol=1e-5, atol=1e-5)
    g, (offset, slope) = torch.randn(shape).transpose(0, 1), line(shape)
    want = reference.add_lines_(g.clone(), x.transpose(0, 1), offset, slope)
    assert torch.allclose(add_lines_(g, x.transpose(0, 1), offset, slope), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6), (2, 1, 33, 2, 2)], ids=str)
def test_channels_that_lie_last_stay_there(shape):
    x, g = (torch.randn(*shape[:2], *shape[3:], shape[2]).movedim(-1, 2) for _ in range(2))
    offset, slope = line(shape)
    for got, want in zip(channel_moments(x), reference.channel_moments(x.double()), strict=True):
        assert torch.allclose(got.double(), want, rtol=1e-5, atol=1e-6)
    strides, want = g.stride(), reference.add_lines_(g.double(), x.double(), offset.double(), slope.double())
    assert add_lines_(g, x, offset, slope) is g and g.stride() == strides
    assert torch.allclose(g.double(), want, rtol=1e-5, atol=1e-5)


def test_a_constant_has_no_variance_and_infinity_and_nan_show():
    x = torch.full((4, 5, 3), 7.3)
    mean, var = channel_moments(x)
    assert torch.equal(mean, x[0, 0]) and not var.any()
    x[1, 2, 1], x[1, 2, 2] = torch.nan, torch.inf
    mean, var = channel_moments(x)
    assert mean[0] == x[0, 0, 0] and mean[1].isnan() and not mean[2].isfinite() and not var[1:].isfinite().any()


def test_nothing_is_touched_of_what_is_empty():
    assert channel_moments(torch.zeros(0, 2, 3))[0].shape == (3,)
    assert add_lines_(torch.zeros(0, 2, 3), torch.zeros(0, 2, 3), torch.ones(3), torch.ones(3)).shape == (0, 2, 3)


@pytest.mark.skipif(INTERPRETED, reason="there everything goes through Triton")
def test_two_threads_give_the_numbers_of_one():
    x, (offset, slope) = torch.randn(16, 32, 16, 8, 8), line((0, 0, 16))
    one = [*channel_moments(x), add_lines_(x.clone(), x, offset, slope)]
    torch.set_num_threads(2)
    try:
        two = [*channel_moments(x), add_lines_(x.clone(), x, offset, slope)]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_reference_is_used_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(plan, "_interpreting", lambda: pytest.fail("asked for a kernel"))
    with ranvier.backend("reference"):
        x = torch.randn(3, 2, 4)
        channel_moments(x)
        add_lines_(x.clone(), x, torch.ones(4), torch.ones(4))


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_kernels_keep_to_this_in_the_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    found = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
