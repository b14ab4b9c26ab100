"""Symbols: a neuron's step, run on these instead of tensors, leaves the graph of its operations.

A symbol answers to torch's own names (`torch.exp(v)`, `v.abs()`, `torch.where(...)`), so a step is ordinary torch code. What
an element-wise kernel can't do is refused where it is written, by name.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn

import torch

from ranvier.core.checks import Refusal

Key = tuple[Any, ...]

BOOLEAN = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"})

# torch's names for each operation, as functions and methods
_UNARY = ("exp", "log", "tanh", "sigmoid", "sqrt", "sin", "cos", "abs", "atan", "erf", "sign")
_BINARY = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "true_divide": "div",
    "maximum": "maximum",
    "minimum": "minimum",
}
_BINARY |= {k: k for k in ("lt", "le", "gt", "ge", "eq", "ne")}
_BINARY |= {
    "logical_and": "and",
    "logical_or": "or",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "and": "and",
    "or": "or",
}
_BINARY |= {"truediv": "div", "multiply": "mul", "subtract": "sub", "divide": "div"}
_NOT = ("logical_not", "bitwise_not", "invert")
_METHODS = ("clamp", "clip", "square", "clamp_min", "clamp_max", "detach")


class Graph:
    """The symbols of one trace; equal expressions are one symbol."""

    def __init__(self) -> None:
        self.symbols: dict[Key, Symbol] = {}

    def input(self, name: str, fixed: bool = False) -> "Symbol":
        """A value that comes from outside; `fixed` when it is the same at every step."""
        return self._one("input", (), name, fixed)

    def constant(self, value: float) -> "Symbol":
        """A number."""
        return self._one("constant", (), float(value), True)

    def lift(self, value: Any) -> "Symbol":
        """A symbol for a number; a symbol as it is."""
        if isinstance(value, Symbol):
            return value
        if isinstance(value, Real):
            return self.constant(float(value))
        # not even a tensor of one number: the kernel would keep the value that it has now
        raise _outside(
            f"a {type(value).__name__} that is neither declared nor a number",
            "write a Python number, or declare it as a Parameter",
        )

    def apply(self, op: str, *args: Any, value: Any = None) -> "Symbol":
        """The symbol of an operation, simplified where that is free of rounding."""
        lifted = _typed(op, tuple(self.lift(a) for a in args))
        simpler = _simplified(op, lifted, value)
        return self._one(op, lifted, value, all(a.fixed for a in lifted)) if simpler is None else simpler

    def _one(self, op: str, args: "tuple[Symbol, ...]", value: Any, fixed: bool) -> "Symbol":
        key = (op, *(a.number for a in args), value)
        if key not in self.symbols:
            self.symbols[key] = Symbol(self, op, args, value, len(self.symbols), fixed)
        return self.symbols[key]


class Symbol:
    """One value of a traced step: an operation on earlier symbols. A `fixed` one depends on parameters alone."""

    __slots__ = ("args", "fixed", "graph", "number", "op", "value")

    def __init__(self, graph: Graph, op: str, args: "tuple[Symbol, ...]", value: Any, number: int, fixed: bool) -> None:
        self.graph, self.op, self.args, self.value, self.number, self.fixed = graph, op, args, value, number, fixed

    def __add__(self, other: Any) -> "Symbol":
        return self.graph.apply("add", self, other)

    def __radd__(self, other: Any) -> "Symbol":
        return self.graph.apply("add", other, self)

    def __sub__(self, other: Any) -> "Symbol":
        return self.graph.apply("sub", self, other)

    def __rsub__(self, other: Any) -> "Symbol":
        return self.graph.apply("sub", other, self)

    def __mul__(self, other: Any) -> "Symbol":
        return self.graph.apply("mul", self, other)

    def __rmul__(self, other: Any) -> "Symbol":
        return self.graph.apply("mul", other, self)

    def __truediv__(self, other: Any) -> "Symbol":
        return self.graph.apply("div", self, other)

    def __rtruediv__(self, other: Any) -> "Symbol":
        return self.graph.apply("div", other, self)

    def __neg__(self) -> "Symbol":
        return self.graph.apply("neg", self)

    def __lt__(self, other: Any) -> "Symbol":
        return self.graph.apply("lt", self, other)

    def __le__(self, other: Any) -> "Symbol":
        return self.graph.apply("le", self, other)

    def __gt__(self, other: Any) -> "Symbol":
        return self.graph.apply("gt", self, other)

    def __ge__(self, other: Any) -> "Symbol":
        return self.graph.apply("ge", self, other)

    def __eq__(self, other: Any) -> "Symbol":  # type: ignore[override]
        return self.graph.apply("eq", self, other)

    def __ne__(self, other: Any) -> "Symbol":  # type: ignore[override]
        return self.graph.apply("ne", self, other)

    __hash__ = None  # type: ignore[assignment]  # since == does not compare symbols; their numbers do

    def __and__(self, other: Any) -> "Symbol":
        return self.graph.apply("and", self, other)

    def __or__(self, other: Any) -> "Symbol":
        return self.graph.apply("or", self, other)

    def __invert__(self) -> "Symbol":
        return self.graph.apply("not", self)

    def __pow__(self, power: Any) -> "Symbol":
        if isinstance(power, Real) and power in (1, 2, 3, 4):
            return self if power == 1 else self * self ** (power - 1)
        raise _outside(f"** {power}", "write powers up to 4 as integers, others with sqrt, or with exp and log")

    def __abs__(self) -> "Symbol":
        return self.graph.apply("abs", self)

    def __bool__(self) -> NoReturn:
        raise _outside("a branch on a value", "write torch.where(condition, a, b)")

    def __iter__(self) -> NoReturn:
        raise _outside("a loop over a value", "return the output and the new states as a tuple")

    def detach(self) -> "Symbol":
        """The same value, through which no gradient passes."""
        return self.graph.apply("detach", self)

    def square(self) -> "Symbol":
        return self * self

    def clamp(self, min: Any = None, max: Any = None) -> "Symbol":
        """The value held in [min, max]; torch's gradient, which passes at the bounds themselves."""
        value = self
        if min is not None:
            value = self.graph.apply("where", self < min, min, value)
        if max is not None:
            value = self.graph.apply("where", value > max, max, value)
        return value

    def clamp_min(self, min: Any) -> "Symbol":
        return self.clamp(min=min)

    def clamp_max(self, max: Any) -> "Symbol":
        return self.clamp(max=max)

    def to(self, dtype: Any = None) -> "Symbol":
        """A truth value as 0 or 1; a number as it is: kernels have one type of number."""
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise _outside(f".to({dtype})", "write .to(x.dtype), self.floor(v) or v != 0")
        return _number(self)

    def float(self) -> "Symbol":
        return self.to()

    @property
    def dtype(self) -> None:
        """For `.to(x.dtype)`."""
        return None

    def __getattr__(self, name: str) -> Any:
        if name in _UNARY or name in _BINARY or name in (*_NOT, "neg", "negative", "pow", "clip"):
            return partial(_called, name, self)
        raise _outside(f".{name}", _VOCABULARY)

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> "Symbol":
        return _called(getattr(func, "__name__", str(func)).strip("_"), *args, **(kwargs or {}))

    def __array_ufunc__(self, function: Any, method: str, *args: Any, **kwargs: Any) -> "Symbol":
        if function.__name__ in _BINARY:  # a numpy number on the left of a symbol
            return _called(function.__name__, *args, **kwargs)
        raise _outside(f"numpy.{function.__name__}", _VOCABULARY)


def _refused(operator: str, instead: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any) -> NoReturn:
        raise _outside(operator, instead)

    return refuse


_VOCABULARY = (
    f"use {', '.join(_UNARY)}, arithmetic, comparisons, torch.where, clamp, maximum, minimum, self.floor, self.round"
)
for _names, _operator, _instead in (
    (("rpow",), "** with a value as the exponent", "write torch.exp(exponent * log_of_the_base)"),
    (("mod", "rmod", "divmod"), "%", "write a - b * self.floor(a / b)"),
    (("floordiv", "rfloordiv", "floor"), "//", "write self.floor(a / b)"),
    (("round", "trunc", "ceil"), "rounding", "write self.round(v) or self.floor(v)"),
    (("int", "float", "index", "len", "contains"), "a Python value of something traced", _VOCABULARY),
    (("getitem", "setitem"), "[...]", "write each quantity as a State of its own"),
    (("matmul", "rmatmul"), "@", "mix neurons in a layer in front of this one"),
    (("xor", "rxor", "lshift", "rshift"), "bit arithmetic", "combine conditions with & and |"),
):
    for _name in _names:
        setattr(Symbol, f"__{_name}__", _refused(_operator, _instead))


def _called(name: str, *args: Any, **kwargs: Any) -> Symbol:
    """A call of torch's function or method `name`."""
    graph = next((a.graph for a in (*args, *kwargs.values()) if isinstance(a, Symbol)), None)
    if graph is None:
        raise _outside(f"torch.{name} of a list", _VOCABULARY)
    if args and name in _METHODS:
        result: Symbol = getattr(graph.lift(args[0]), {"clip": "clamp"}.get(name, name))(*args[1:], **kwargs)
        return result
    if kwargs and name in (*_UNARY, *_BINARY, "where"):
        named = ", ".join(f"{k}=" for k in kwargs)
        raise _outside(f"torch.{name}({named})", "give values by position and compute the rest with arithmetic")
    if name in _UNARY:
        return graph.apply(name, *args)
    if name in _NOT:
        return graph.apply("not", *args)
    if name in _BINARY:
        return graph.apply(_BINARY[name], *args)
    if name == "where" and len(args) == 3:
        return graph.apply("where", *args)
    if name in ("zeros_like", "ones_like"):
        return graph.constant(float(name == "ones_like"))
    if name in ("neg", "negative"):
        return -graph.lift(args[0])
    if name == "pow":
        power: Symbol = args[0] ** args[1]
        return power
    raise _outside(f"torch.{name}", _VOCABULARY)


class SymbolDraws:
    """The random numbers of a traced step, as core.random.Draws gives them to one on tensors."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.stream = graph, 0
        # what a draw depends on: fixed for each neuron, and the step
        self.key = [graph.input(f"p:{name}", fixed=True) for name in RANDOM] + [graph.input("t")]

    def uniform(self) -> Symbol:
        """The next uniform draw of this step."""
        return self._draw("uniform")

    def normal(self) -> Symbol:
        """The next normal draw of this step."""
        return self._draw("normal")

    def _draw(self, kind: str) -> Symbol:
        self.stream += 1
        return self.graph.apply(kind, *self.key, value=self.stream - 1)


RANDOM = ("random_element", "random_seed_low", "random_seed_high", "random_step")
"""What a kernel that draws random numbers is given for each neuron: 32-bit words in the place of numbers."""


def topological(outputs: Iterable[Symbol]) -> list[Symbol]:
    """All symbols that the outputs depend on, each after its arguments."""
    order: dict[int, Symbol] = {}
    stack = [(s, False) for s in reversed(list(outputs))]
    while stack:
        symbol, ready = stack.pop()
        if ready:
            order[symbol.number] = symbol
        elif symbol.number not in order:
            stack.append((symbol, True))
            stack.extend((a, False) for a in reversed(symbol.args) if a.number not in order)
    return list(order.values())


def inputs(outputs: Iterable[Symbol]) -> set[str]:
    """The names of the inputs that the outputs depend on."""
    return {s.value for s in topological(outputs) if s.op == "input"}


_FOLD: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
}


def _simplified(op: str, args: tuple[Symbol, ...], value: Any) -> Symbol | None:
    graph = args[0].graph

    def is_(symbol: Symbol, number: float) -> bool:
        return symbol.op == "constant" and symbol.value == number

    if op in _FOLD and all(a.op == "constant" for a in args):
        return graph.constant(_FOLD[op](*(a.value for a in args)))
    if op == "div" and all(a.op == "constant" for a in args) and args[1].value != 0:
        return graph.constant(args[0].value / args[1].value)
    match op, args:
        case "mul", (a, b) if is_(a, 0) or is_(b, 0):
            return graph.constant(0)
        case (("mul" | "div"), (a, b)) if is_(b, 1):
            return a
        case "mul", (a, b) if is_(a, 1):
            return b
        case "mul", (a, b) if is_(a, -1):
            return -b
        case "mul", (a, b) if is_(b, -1):
            return -a
        case (("add" | "sub"), (a, b)) if is_(b, 0):
            return a
        case "add", (a, b) if is_(a, 0):
            return b
        case "sub", (a, b) if is_(a, 0):
            return -b
        case "add", (a, b) if b.op == "neg":
            return a - b.args[0]
        case "add", (a, b) if a.op == "neg":
            return b - a.args[0]
        case "sub", (a, b) if b.op == "neg":
            return a + b.args[0]
        case "neg", (a,) if a.op == "neg":
            return a.args[0]
        case "div", (a, b) if is_(a, 0):
            return a
        case "div", (a, b) if b.fixed and not a.fixed:
            return a * (1.0 / b)  # the division leaves the time loop
        case "where", (_, a, b) if a is b:
            return a
    return None


def _number(symbol: Symbol) -> Symbol:
    return symbol.graph.apply("where", symbol, 1.0, 0.0) if symbol.op in BOOLEAN else symbol


def _typed(op: str, args: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
    """Arguments of the types that an operation works on: truth values count as 0 and 1 where numbers are needed."""
    needs_truth = {"and": args, "or": args, "not": args, "where": args[:1]}.get(op, ())
    if any(a.op not in BOOLEAN for a in needs_truth):
        raise _outside(f"a number as the condition of {op}", "compare it first, as in v > 0")
    return (*needs_truth, *(_number(a) for a in args[len(needs_truth) :]))


_HIDDEN = (__file__, str(Path(torch.__file__).parent))


def _outside(what: str, instead: str) -> Refusal:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HIDDEN):
        frame = frame.f_back
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    return Refusal(f"step at {place}", expected="operations that a kernel has", got=what, do=f"In a step {instead}.")
