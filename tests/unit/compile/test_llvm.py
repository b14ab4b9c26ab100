"""What is the CPU kernels' own: their exponential and its kin over all of float32, and where they read."""

import ctypes
import mmap
import os

import pytest
import torch

import ranvier

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="kernels are Triton's there")


def every(low, high, stride):
    """Every stride-th float32 of [low, high], on both sides of 0."""
    bits = torch.arange(0, 0x7F800000, stride, dtype=torch.int32).view(torch.float32)
    both = torch.cat([-bits, bits])
    return both[(both >= low) & (both <= high)]


def units(actual, exact):
    near = exact.float()
    spacing = (near.abs().nextafter(torch.tensor(torch.inf)) - near.abs()).double()
    return ((actual.double() - exact).abs() / spacing).max().item()


@pytest.mark.parametrize(
    ("function", "low", "high", "most"),
    [
        (torch.exp, -103.9, 88.72, 1.0),  # down to the smallest number there is
        (torch.tanh, -100.0, 100.0, 1.5),
        (torch.sigmoid, -87.0, 100.0, 2.5),
        (torch.sin, -1e30, 1e30, 1.0),
        (torch.cos, -1e30, 1e30, 1.0),
        (torch.log, 0.0, 3e38, 1.0),
        (torch.atan, -1e30, 1e30, 1.0),
        (torch.erf, -10.0, 10.0, 1.0),
    ],
)
def test_functions_to_units_in_the_last_place_over_all_of_float32(function, low, high, most, computed):
    x = every(low, high, 40_009)
    x = x[x != 0] if function is torch.log else x
    assert units(computed(function, x), function(x.double())) <= most


def test_the_exponential_at_its_ends(computed):
    x = torch.tensor([88.722839, 88.72284, 88.73, 89.0, 1e4, torch.inf, -103.97, -103.98, -104.5, -1e4, -torch.inf])
    assert torch.equal(computed(torch.exp, x), x.double().exp().float())
    assert computed(torch.exp, torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_nothing_is_read_or_written_past_the_end_of_a_page(dtype):
    """Input and parameters end where the memory that may be touched ends: an access beyond would end the process."""
    child = os.fork()
    if child == 0:
        try:
            layer = ranvier.LIF(tau=torch.nn.Parameter(torch.full((5,), 3.0)))
            number = torch.float64 if dtype == torch.float64 else torch.float32
            layer._parameters["tau"] = at_the_end(torch.linspace(2, 3, 5).to(number)).requires_grad_()
            x = at_the_end(torch.randn(17, 3, 5).to(dtype)).requires_grad_()
            y, state = ranvier.run(layer, x, {"v": at_the_end(torch.randn(3, 5).to(number))})
            g = at_the_end(torch.randn(17, 3, 5).to(dtype))
            torch.autograd.grad([y, state["v"]], [x, layer.tau], [g, at_the_end(torch.randn(3, 5).to(number))])
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def at_the_end(value):
    """A copy of value whose last byte is the last of a page with none to follow."""
    page = mmap.PAGESIZE
    size = value.numel() * value.element_size()
    whole = -(-size // page) * page
    memory = mmap.mmap(-1, whole + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + whole), page, 0) == 0
    copy = torch.frombuffer(memory, dtype=value.dtype, count=value.numel(), offset=whole - size).view(value.shape)
    copy.copy_(value)
    return copy
