import math

import numpy as np
import pytest
import torch

import ranvier
from ranvier.compile.symbol import Graph, inputs, topological
from ranvier.core.checks import Refusal


@pytest.fixture
def v():
    return Graph().input("v")


def test_equal_expressions_are_one_symbol(v):
    w = v.graph.input("w")
    assert (v + w) * v is (v + w) * v and v.exp() is torch.exp(v) and v + w is not w + v


def test_symbols_answer_to_functions_methods_and_operators_alike(v):
    w = v.graph.input("w")
    for name in ("exp", "log", "tanh", "sigmoid", "sqrt", "sin", "cos", "abs", "atan", "erf", "sign", "neg", "square"):
        assert getattr(torch, name)(v) is getattr(v, name)(), name
    for name in ("add", "sub", "mul", "div", "maximum", "minimum", "lt", "le", "gt", "ge", "eq", "ne"):
        assert getattr(torch, name)(v, w) is getattr(v, name)(w), name
    for name, operator in (
        ("add", v + w),
        ("sub", v - w),
        ("mul", v * w),
        ("true_divide", v / w),
        ("lt", v < w),
        ("le", v <= w),
        ("gt", v > w),
        ("ge", v >= w),
        ("eq", v == w),
        ("ne", v != w),
        ("logical_and", (v > 0) & (w > 0)),
        ("logical_or", (v > 0) | (w > 0)),
        ("logical_not", ~(v > 0)),
    ):
        arguments = {"logical_not": (v > 0,)}.get(name, (v > 0, w > 0) if "logical" in name else (v, w))
        assert getattr(torch, name)(*arguments) is operator, name
    assert abs(v) is v.abs() and torch.pow(v, 3) is v**3.0 is v * (v * v)
    assert torch.clamp(v, 0, 1) is v.clamp(min=0, max=1) is torch.clip(v, 0, max=1) is v.clamp_min(0).clamp_max(1)
    assert torch.ones_like(v) is v.graph.constant(1) and torch.zeros_like(v) is v.graph.constant(0)
    assert v.to(v.dtype) is v.float() is v.to(torch.float64) is v and torch.detach(v) is v.detach()


def test_numbers_of_numpy_are_numbers(v):
    for number in (np.float64(2), np.float32(2), np.int64(2)):
        assert number * v is 2.0 * v and number + v is 2.0 + v and number - v is 2.0 - v and number / v is 2.0 / v
        assert (v < number) is (v < 2)


def test_what_needs_no_arithmetic_is_left_out(v):
    zero, one = v.graph.constant(0), v.graph.constant(1)
    for simple in (v + 0, 0 + v, v - 0, v * 1, 1 * v, v / 1, v.neg().neg(), torch.where(v > 0, v, v), v.to()):
        assert simple is v
    assert 0 * v is zero and v * 0 is zero and 0 / v is zero
    assert (0 - v).op == (-1 * v).op == (v * -1).op == "neg"
    assert (v + -v.exp()).op == (-v.exp() + v).op == "sub" and (v - -v.exp()).op == "add"
    assert one + 2 is v.graph.constant(3) and -one is v.graph.constant(-1) and one / 4 is v.graph.constant(0.25)
    assert (one / zero).op == "div"  # torch's infinity, not Python's error


def test_constants_are_folded_in_float64(v):
    assert (v.graph.constant(0.1) * 0.2 - 0.3).value == 0.1 * 0.2 - 0.3


def test_a_division_by_what_is_fixed_becomes_a_product(v):
    tau = v.graph.input("p:tau", fixed=True)
    product = v / tau
    assert product.op == "mul" and product.args[1].op == "div" and product.args[1].fixed and not product.fixed
    assert (v / 4).args[1] is v.graph.constant(0.25)
    assert (v / v.exp()).op == "div" and (tau / (tau + 1)).op == "div"  # the latter is done once anyway


def test_fixed_is_what_depends_on_fixed_inputs_alone(v):
    tau = v.graph.input("p:tau", fixed=True)
    assert (1 - 1 / tau).exp().fixed and v.graph.constant(2).fixed and not (tau * v).fixed and not v.fixed


def test_truth_values_count_as_numbers_in_arithmetic(v):
    number = (v > 0).to()
    assert number.op == "where" and (v > 0) * v is number * v and ((v > 0) == (v > 1)).args[0] is number
    assert torch.where(v > 0, v, True).args[2] is v.graph.constant(1)


def test_order_of_evaluation_and_inputs(v):
    w = v.graph.input("w")
    result = torch.where(v > w, v.exp() * v.exp(), w)
    order = topological([result, result])
    assert len(order) == len({s.number for s in order}) == 6 and order[-1] is result
    place = {s.number: i for i, s in enumerate(order)}
    assert all(place[a.number] < place[s.number] for s in order for a in s.args)
    assert inputs([result]) == {"v", "w"} and inputs([v.exp()]) == {"v"}


def test_a_long_chain_needs_no_deep_recursion(v):
    chained = v
    for i in range(5000):
        chained = chained * v + i
    assert len(topological([chained])) > 10_000


REFUSED = {
    "torch.softmax": lambda v: torch.softmax(v, 0),
    "torch.relu": lambda v: torch.nn.functional.relu(v),  # named where the step calls it, not inside torch
    "torch.stack of a list": lambda v: torch.stack([v, v]),
    "torch.add(alpha=)": lambda v: torch.add(v, v, alpha=2),
    "torch.sub(alpha=)": lambda v: v.sub(v, alpha=2),
    "torch.div(rounding_mode=)": lambda v: torch.div(v, 2, rounding_mode="floor"),
    "torch.where(condition=, input=, other=)": lambda v: torch.where(condition=v > 0, input=v, other=v),
    "torch.max": lambda v: torch.max(v, v),
    "numpy.exp": lambda v: np.exp(v),
    "a Python value": lambda v: math.exp(v),
    ".add_": lambda v: v.add_(1),
    ".item": lambda v: v.item(),
    ".shape": lambda v: v.shape[0],
    ".to(torch.int64)": lambda v: v.to(torch.int64),
    "a branch on a value": lambda v: v if v > 0 else -v,
    "a loop over a value": lambda v: [*v],
    "[...]": lambda v: v[0],
    "@": lambda v: v @ v,
    "%": lambda v: v % 2,
    "//": lambda v: v // 2,
    "** 0.5": lambda v: v**0.5,
    "** with a value": lambda v: 2**v,
    "rounding": lambda v: round(v),
    "bit arithmetic": lambda v: (v > 0) ^ (v > 1),
    "a number as the condition of where": lambda v: torch.where(v, 1.0, 0.0),
    "a number as the condition of not": lambda v: ~v,
    "a number as the condition of and": lambda v: (v > 0) & v,
    "a Tensor that is neither declared nor a number": lambda v: torch.ones(3) * v,
    "a NoneType that": lambda v: v + None,
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_no_kernel_has_is_refused_by_name_and_line_with_what_to_write(named, v):
    function = REFUSED[named]
    with pytest.raises(Refusal) as caught:
        function(v)
    text = str(caught.value)
    line = function.__code__.co_firstlineno
    assert text.startswith(f"step at {__file__}:{line}: expected operations that a kernel has; got {named}"), text
    assert ". In a step " in text and text.endswith(".")


def test_max_of_python_is_a_branch(v):
    with pytest.raises(Refusal, match=r"a branch on a value.*torch\.where"):
        max(v, v.exp())
    with pytest.raises(Refusal, match="a branch on a value"):
        _ = 0 < v < 1


class Branching(ranvier.Neuron):
    threshold = ranvier.Parameter(1.0)
    v = ranvier.State()

    def __init__(self, written, **options):
        super().__init__(**options)
        self.written = written

    def step(self, x, v):
        return self.written(self, x, v)


def of(written):
    return Branching(written)(torch.zeros(2, 1, 1))


def test_a_neuron_is_refused_at_the_line_of_its_step():
    def written(self, x, v):
        v = v + x
        if v > self.threshold:
            v = v - self.threshold
        return v, v

    line = written.__code__.co_firstlineno + 2
    with pytest.raises(Refusal, match=rf"{__file__}:{line}: .*a branch on a value.*torch\.where"):
        of(written)
    with ranvier.backend("reference"):
        assert Branching(written)(torch.zeros(2, 1, 1)).shape == (2, 1, 1)  # one neuron: torch can decide


def test_a_tensor_that_is_not_declared_is_refused_though_it_has_one_element():
    """A kernel would keep the value that it had when it was made."""
    weight = torch.tensor(2.0)
    with pytest.raises(Refusal, match=r"a Tensor that is neither declared nor a number.*declare it as a Parameter"):
        of(lambda self, x, v: (x * weight, v))
    with pytest.raises(Refusal, match="a Tensor that is neither"):
        of(lambda self, x, v: (weight * x, v))


def test_a_branch_on_an_option_is_taken_while_tracing():
    def written(self, x, v):
        return (x if self.reset_mode == "zero" else -x), v

    assert of(written).shape == (2, 1, 1)


def test_a_step_that_returns_truth_values_gives_zeros_and_ones():
    y = Branching(lambda self, x, v: (x > 0, v))(torch.tensor([1.0, -1.0]).reshape(2, 1, 1))
    assert y.flatten().tolist() == [1.0, 0.0] and y.dtype == torch.float32


def test_too_few_states_are_refused_by_name():
    with pytest.raises(ValueError, match=r"the output and 1 new states \(v\); got 0 states"):
        of(lambda self, x, v: (x,))
