"""Every operation of the table, as a kernel computes it, against torch."""

import math
import os
import subprocess
import sys

import pytest
import torch

from ranvier.compile import llvm_operations, triton
from ranvier.compile.gradient import FLAT, RULES
from ranvier.compile.symbol import Graph, topological
from ranvier.nn.surrogates import Arctan, spike, straight_through

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
EDGES = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1e-40, 1.17549435e-38, 3.4028235e38, -3.4028235e38]
EDGES += [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1.0, -1.0, 8388607.5, 4194304.5, -4194305.5, 8388609.0, 2.0**30]

# operation, what it takes, how many units in the last place of float32 a kernel may be off, and one of torch's own
UNARY = {
    "exp": (torch.exp, (-104.0, 89.0), 2),
    "log": (torch.log, (1e-3, 1e4), 2),
    "tanh": (torch.tanh, (-12.0, 12.0), 6),
    "sigmoid": (torch.sigmoid, (-80.0, 80.0), 4),
    "sqrt": (torch.sqrt, (0.0, 1e6), 1),
    "sin": (torch.sin, (-1e4, 1e4), 2),
    "cos": (torch.cos, (-1e4, 1e4), 2),
    "atan": (torch.atan, (-50.0, 50.0), 4),
    "erf": (torch.erf, (-5.0, 5.0), 4),
    "abs": (torch.abs, (-9.0, 9.0), 0),
    "sign": (torch.sign, (-9.0, 9.0), 0),
    "floor": (lambda x: straight_through("floor", x), (-9.0, 9.0), 0),
    "round": (lambda x: straight_through("round", x), (-9.0, 9.0), 0),
    "neg": (lambda x: -x, (-9.0, 9.0), 0),
    "detach": (lambda x: x.detach(), (-9.0, 9.0), 0),
    "square": (torch.square, (-9.0, 9.0), 1),
    "spike": (lambda x: spike(x, Arctan()), (-1.0, 1.0), 0),
    "clamp": (lambda x: x.clamp(-1.0, 2.0), (-3.0, 3.0), 0),
    "clip": (lambda x: torch.clip(x, max=2.0), (-3.0, 3.0), 0),
    "fourth power": (lambda x: x**4, (-9.0, 9.0), 3),
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "lt": lambda a, b: (a < b).to(a.dtype),
    "le": lambda a, b: (a <= b).to(a.dtype),
    "gt": lambda a, b: (a > b).to(a.dtype),
    "ge": lambda a, b: (a >= b).to(a.dtype),
    "eq": lambda a, b: (a == b).to(a.dtype),
    "ne": lambda a, b: (a != b).to(a.dtype),
    "and": lambda a, b: ((a > 0) & (b > 0)).to(a.dtype),
    "or": lambda a, b: torch.logical_or(a > 0, b > 0).to(a.dtype),
    "not": lambda a, b: (~(a > b)).to(a.dtype),
    "where": lambda a, b: torch.where(a > b, a, 0.1),
    "edges that are numbers": lambda a, b: torch.where(a < b, a.clamp(0.1, 0.7), a.clamp_max(0.3)),
    "a truth value times a number": lambda a, b: (a > 0) * b,
    "a condition on parameters alone": lambda a, b: torch.where((b > 0) & (b < 5), a, -a),
}


def spread(low, high):
    small = torch.logspace(-30, 0, 101 if INTERPRETED else 2001)
    return torch.cat([torch.linspace(low, high, 1001 if INTERPRETED else 20_001), small, -small])


def off(actual, expected):
    """How many units in the last place the two are apart."""
    expected = expected.double()
    number = actual.dtype
    spacing = torch.nextafter(expected.to(number).abs(), torch.full((), math.inf, dtype=number, device=actual.device))
    distance = (actual.double() - expected).abs() / (spacing.double() - expected.to(number).abs().double())
    exact = (actual.double() == expected.to(number).double()) | (actual.isnan() & expected.isnan())
    return torch.where(exact, 0.0, distance).nan_to_num(math.inf).max().item()


def allowed(units, device, dtype=torch.float32):
    if device.type == "cuda" and units:  # a GPU's own exp and division are faster and not as exact
        return 1e-5 / torch.finfo(dtype).eps if dtype == torch.float32 else 100
    return units


@pytest.mark.parametrize("name", UNARY)
def test_operations_of_one_number_are_those_of_torch(name, computed, device):
    function, (low, high), units = UNARY[name]
    x = spread(low, high)
    assert off(computed(function, x.to(device)), function(x.double()).to(device)) <= allowed(units + 0.51, device)


@pytest.mark.parametrize("name", UNARY)
def test_float64_operations_of_one_number_are_those_of_torch(name, computed, device):
    function, (low, high), units = UNARY[name]
    x = spread(low, high).double().to(device)
    most = 40 if INTERPRETED and name in ("tanh", "atan") else 4
    assert off(computed(function, x), function(x)) <= allowed(most * (units > 0), device, torch.float64)


@pytest.mark.parametrize("name", UNARY)
def test_edges_are_those_of_torch(name, computed, device):
    """Zeros, infinities, NaN, numbers below the normal ones, halves, and numbers too large to have a fraction."""
    function, _, units = UNARY[name]
    x = torch.tensor(EDGES)
    if name in ("sin", "cos"):
        x = x[(x.abs() < 2**24) | ~x.isfinite()]
    actual, expected = computed(function, x.to(device)).cpu(), function(x.double())
    if device.type == "cuda":  # which may take numbers below the normal ones for 0
        normal = (x.abs() > 1e-37) | (x == 0)
        actual, expected = actual[normal], expected[normal]
    assert torch.equal(actual.isnan(), expected.isnan())
    assert off(actual, expected) <= allowed(units + 0.51, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_operations_of_two_numbers_are_those_of_torch(name, dtype, computed, device):
    function = BINARY[name]
    edges = torch.tensor(EDGES, dtype=dtype)
    a = torch.cat([torch.randn(300, dtype=dtype), edges.repeat_interleave(len(edges))]).to(device)
    b = torch.cat([torch.randn(300, dtype=dtype).exp(), edges.repeat(len(edges))]).to(device)
    if device.type == "cuda" or name == "div":  # 1 / b of a b below the normal numbers is infinite
        usual = ((b.abs() > 1e-37) | (b == 0)) & (b.abs() < 1e37) & ((a.abs() > 1e-30) | (a == 0)) & (a.abs() < 1e30)
        a, b = a[usual], b[usual]
    actual, expected = computed(function, a, b), function(a.double(), b.double()).to(dtype)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert off(actual, expected) <= allowed(1.5 if name == "div" else 0, device, dtype)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_nan_wins_on_either_side(name, computed, device):
    a, b = (
        torch.tensor([math.nan, 1.0, math.nan], device=device),
        torch.tensor([1.0, math.nan, math.nan], device=device),
    )
    assert computed(getattr(torch, name), a, b).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bit_numbers_are_widened_exactly(dtype, computed, device):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).to(device)
    every = every[:: 50 if INTERPRETED else 1]
    back = computed(lambda x: x * 1.0, every)
    normal = every.isfinite() & ((every.float().abs() >= 2.0**-126) | (every == 0))
    assert torch.equal(back[normal].view(torch.int16), every[normal].view(torch.int16))
    assert torch.equal(back.isnan(), every.isnan()) and torch.equal(back.isinf(), every.isinf())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bit_numbers_are_rounded_as_torch_rounds_them(dtype, computed, device):
    if INTERPRETED and dtype == torch.bfloat16:
        pytest.skip("the interpreter cuts off instead of rounding")
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[every.isfinite()].float().sort().values
    ties = (every[1:] + every[:-1]) / 2  # midway between neighbours: to the even one
    around = torch.cat([ties, ties.nextafter(torch.tensor(math.inf)), ties.nextafter(torch.tensor(-math.inf))])
    value = torch.cat([around[:: 50 if INTERPRETED else 1], torch.tensor(EDGES), torch.randn(500)]).to(device)
    if device.type == "cuda":
        value = value[(value.abs() > 1e-37) | (value == 0)]
    actual = computed(lambda x, p: torch.where(x == x, p, 0.0), torch.zeros_like(value, dtype=dtype), value)
    expected = value.to(dtype)
    assert torch.equal(actual.isnan(), expected.isnan())
    number = ~expected.isnan()
    assert torch.equal(actual[number].view(torch.int16), expected[number].view(torch.int16))


def test_outputs_and_gradients_that_are_constants(computed, device):
    """What the graph simplifies to a number still fills its tensors."""
    x = torch.randn(37, device=device, requires_grad=True)
    p = torch.randn(37, device=device, requires_grad=True)
    for function, expected in ((lambda x, p: x * 0 + 2.0, 2.0), (lambda x, p: p.detach() * 1.0 + x.detach(), None)):
        y = computed(function, x, p)
        assert torch.equal(y, torch.full_like(y, expected) if expected else p + x)
        assert all(not g.any() for g in torch.autograd.grad(y.sum(), [x, p]))
    # an operation on numbers alone, infinite ones too
    y = computed(lambda x: torch.where(x < math.inf, torch.exp(torch.zeros_like(x)), -math.inf), x)
    assert torch.equal(y, torch.ones_like(y))


def test_every_operation_of_the_printers_is_tested():
    assert set(llvm_operations.OPERATIONS) == set(triton.OPERATIONS) == (set(RULES) | FLAT) - {"input", "constant"}
    reached = set()
    for function in (*(f for f, _, _ in UNARY.values()), *BINARY.values()):
        graph = Graph()
        try:
            result = function(graph.input("a"))
        except TypeError:
            result = function(graph.input("a"), graph.input("b"))
        reached |= {s.op for s in topological([result])}
    # tests/contract/test_fused.py draws random numbers
    assert set(triton.OPERATIONS) - reached == {"uniform", "normal"}


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_operations_are_those_of_torch_too():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", __file__]
    found = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
