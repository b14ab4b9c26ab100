"""The gradient of a graph against torch's autograd, in float64: graphs are evaluated by the few lines below."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.compile.gradient import FLAT, RULES, gradients
from ranvier.compile.symbol import Graph, topological
from ranvier.nn.surrogates import Arctan, Gaussian, Triangle, spike, straight_through

BY_TORCH = {
    **{k: getattr(torch, k) for k in ("add", "sub", "mul", "div", "neg", "exp", "log", "tanh", "sigmoid", "sqrt")},
    **{k: getattr(torch, k) for k in ("sin", "cos", "atan", "erf", "abs", "sign", "maximum", "minimum", "where")},
    **{k: getattr(torch, k) for k in ("lt", "le", "gt", "ge", "eq", "ne", "detach", "floor", "round")},
    "and": torch.logical_and,
    "or": torch.logical_or,
    "not": torch.logical_not,
}


def evaluated(symbols, given):
    """Symbols by their meaning; `given` has the inputs by name."""
    done = {}
    for s in topological(symbols):
        if s.op == "input":
            done[s.number] = given[s.value]
        elif s.op == "constant":
            done[s.number] = torch.tensor(s.value, dtype=torch.float64)
        elif s.op == "spike":
            done[s.number] = (done[s.args[0].number] >= 0).double()
        else:
            done[s.number] = BY_TORCH[s.op](*(done[a.number] for a in s.args))
    return [done[s.number] for s in symbols]


def compared(function, *values):
    """What `function` and its gradients are by the graph and by torch."""
    graph = Graph()
    names = [f"v{i}" for i in range(len(values))]
    symbols, cotangent = [graph.input(k) for k in names], graph.input("g")
    result = graph.lift(function(*symbols)).to()
    leaves = [v.double().requires_grad_() for v in values]
    weights = torch.randn_like(values[0]).double()
    given = {**dict(zip(names, leaves, strict=True)), "g": weights}
    found = evaluated([result, *gradients([result], [cotangent], symbols)], given)
    y = function(*leaves)
    y = y.to(torch.float64) if isinstance(y, torch.Tensor) else torch.full_like(weights, y)
    expected = (
        torch.autograd.grad((y * weights).sum(), leaves, allow_unused=True) if y.requires_grad else [None] * len(leaves)
    )
    pairs = [
        (found[0], y),
        *((a, torch.zeros_like(weights) if e is None else e) for a, e in zip(found[1:], expected, strict=True)),
    ]
    return [torch.broadcast_tensors(a, e) for a, e in pairs]


def agree(function, *values, tolerance=1e-12):
    for actual, expected in compared(function, *values):
        assert torch.allclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


LINE = torch.cat([torch.linspace(-3, 3, 25), torch.tensor([0.0, 0.5, 1.0, -1.0])])
POSITIVE = LINE.abs() + 0.1
RULE = {
    "add": (lambda a, b: a + 2 * b, LINE, LINE.flip(0)),
    "sub": (lambda a, b: a - 2 * b, LINE, LINE.flip(0)),
    "mul": (lambda a, b: a * b * a, LINE, LINE.flip(0)),
    "div": (lambda a, b: a / b, LINE, POSITIVE.flip(0)),
    "neg": (lambda a: -a, LINE),
    "exp": (torch.exp, LINE),
    "log": (torch.log, POSITIVE),
    "tanh": (torch.tanh, LINE),
    "sigmoid": (torch.sigmoid, LINE),
    "sqrt": (torch.sqrt, POSITIVE),
    "sin": (torch.sin, LINE),
    "cos": (torch.cos, LINE),
    "atan": (torch.atan, LINE),
    "erf": (torch.erf, LINE),
    "abs": (torch.abs, LINE),  # 0 at 0, as in torch
    "maximum": (torch.maximum, LINE, LINE.round()),  # half to each at a tie, as in torch
    "minimum": (torch.minimum, LINE, LINE.round()),
    "where": (lambda a, b: torch.where(a > b, a * b, b), LINE, LINE.round()),
    "spike": (lambda a: spike(a, Triangle(width=2.0)), LINE),
    "floor": (lambda a: a * straight_through("floor", a), LINE),
    "round": (lambda a: a * straight_through("round", a), LINE),
}


def test_every_rule_is_here():
    assert RULE.keys() == RULES.keys()
    assert set(BY_TORCH) | {"spike"} == (set(RULES) | FLAT) - {"input", "constant", "uniform", "normal"}


@pytest.mark.parametrize("operation", RULE)
def test_the_rule_of_each_operation_is_torchs_derivative(operation):
    function, *values = RULE[operation]
    agree(function, *values)


@pytest.mark.parametrize(
    "function",
    [
        lambda a: a.clamp(-1, 1) * a,  # the bounds themselves pass
        lambda a: a.clamp_min(0) + a.clamp_max(0.5),
        lambda a: a.detach() * a,
        lambda a: a.sign() * a,
        lambda a: (a >= 1).to(a.dtype) * a,
        lambda a: a**4 + torch.square(a),
        lambda a: torch.where(a > 0, a, 2.0),
        lambda a: torch.zeros_like(a) + 1,
        lambda a: 2.0,
    ],
)
def test_what_has_no_rule_of_its_own(function):
    agree(function, LINE)


def test_clamp_with_crossed_bounds_gives_the_upper_one_as_torch_does():
    agree(lambda a: a.clamp(2, 1), LINE)


def test_a_value_used_many_times_collects_every_gradient():
    def chained(a, b):
        for _ in range(6):
            a, b = a * b + a, torch.tanh(a) - b * a
        return a + b

    agree(chained, 0.3 * LINE, 0.2 * LINE.flip(0), tolerance=1e-9)


def test_wanted_symbols_count_as_independent_of_each_other():
    graph = Graph()
    v, g = graph.input("v"), graph.input("g")
    inner = v.exp()
    outer = inner * v
    to_v, to_inner = evaluated(gradients([outer], [g], [v, inner]), {"v": torch.tensor(2.0), "g": torch.tensor(1.0)})
    assert to_v == torch.tensor(2.0).exp() and to_inner == 2.0  # not through inner


def test_several_outputs_add_up():
    graph = Graph()
    v, g, h = (graph.input(k) for k in "vgh")
    (found,) = gradients([v * v, v.exp(), v], [g, h, g], [v])
    value = evaluated([found], {"v": torch.tensor(2.0), "g": torch.tensor(3.0), "h": torch.tensor(5.0)})[0]
    assert torch.allclose(value, 3 * 4 + 5 * torch.tensor(2.0).exp() + 3)


def test_what_has_no_influence_gets_zero_and_costs_nothing():
    graph = Graph()
    v, w, g = (graph.input(k) for k in "vwg")
    to_w, to_v = gradients([v.exp().detach() + v], [g], [w, v])
    assert to_w is graph.constant(0) and to_v is g


# a tree is a function of (a, b); every operation stays where its derivative is bounded
LEAF = st.sampled_from([lambda a, b: a, lambda a, b: b, lambda a, b: 0.5 * a - 1, lambda a, b: b.detach()])
ONE = [
    lambda u: torch.tanh(u),
    lambda u: torch.exp(-u.abs()),
    lambda u: torch.log(1 + u.abs()),
    lambda u: torch.sqrt(0.1 + u * u),
    lambda u: torch.sin(u),
    lambda u: torch.cos(u),
    lambda u: torch.atan(u),
    lambda u: torch.erf(u),
    lambda u: torch.sigmoid(u),
    lambda u: u.clamp(-0.7, 0.9),
    lambda u: -u,
    lambda u: spike(u, Arctan()),
    lambda u: spike(u - 0.3, Gaussian(width=0.7)),
    lambda u: straight_through("floor", 3 * u),
    lambda u: u.sign(),
    lambda u: u / 3,
    lambda u: 0 * u,
]
TWO = [
    lambda u, w: u + w,
    lambda u, w: u - w,
    lambda u, w: torch.tanh(u) * w,
    lambda u, w: u / (1 + w.abs()),
    lambda u, w: torch.maximum(u, w),
    lambda u, w: torch.minimum(u, w),
    lambda u, w: torch.where((u > w) & ~(w <= 0), u, 2 * w),
    lambda u, w: (u != w) * u,
]


def branch(children):
    def one(f, u):
        return lambda a, b: f(u(a, b))

    def two(f, u, w):
        return lambda a, b: f(u(a, b), w(a, b))

    return st.builds(one, st.sampled_from(ONE), children) | st.builds(two, st.sampled_from(TWO), children, children)


@given(st.recursive(LEAF, branch, max_leaves=12), st.integers(0, 2**31))
def test_any_expression_has_torchs_value_and_gradients(function, seed):
    torch.manual_seed(seed)
    a, b = torch.randn(2, 8).double()
    a[0] = b[0]  # ties
    agree(function, a, b, tolerance=1e-9)
