"""Reverse-mode gradient of a graph of symbols: one line per operation."""

import math
from collections.abc import Callable, Sequence

from ranvier.compile.symbol import Symbol, topological


def _where(condition: Symbol, a: Symbol | float, b: Symbol | float) -> Symbol:
    return condition.graph.apply("where", condition, a, b)


def _larger(g: Symbol, a: Symbol, b: Symbol) -> Symbol:
    """What of g goes to a where a is the larger; half of it at a tie, as in torch."""
    return _where(a > b, g, _where(a.graph.apply("eq", a, b), 0.5 * g, 0.0))


# g is the gradient of y = op(a, b, c); None where nothing passes
RULES: dict[str, Callable[..., tuple[Symbol | None, ...]]] = {
    "add": lambda g, y, a, b: (g, g),
    "sub": lambda g, y, a, b: (g, -g),
    "mul": lambda g, y, a, b: (g * b, g * a),
    "div": lambda g, y, a, b: (g / b, -(g * y) / b),
    "neg": lambda g, y, a: (-g,),
    "exp": lambda g, y, a: (g * y,),
    "log": lambda g, y, a: (g / a,),
    "tanh": lambda g, y, a: (g * (1 - y * y),),
    "sigmoid": lambda g, y, a: (g * (y * (1 - y)),),
    "sqrt": lambda g, y, a: (0.5 * g / y,),
    "sin": lambda g, y, a: (g * a.cos(),),
    "cos": lambda g, y, a: (-(g * a.sin()),),
    "atan": lambda g, y, a: (g / (1 + a * a),),
    "erf": lambda g, y, a: (g * (2 / math.sqrt(math.pi) * (-(a * a)).exp()),),
    "abs": lambda g, y, a: (g * a.sign(),),
    "maximum": lambda g, y, a, b: (_larger(g, a, b), _larger(g, b, a)),
    "minimum": lambda g, y, a, b: (_larger(g, -a, -b), _larger(g, -b, -a)),
    "where": lambda g, y, c, a, b: (None, _where(c, g, 0.0), _where(c, 0.0, g)),
    "spike": lambda g, y, a: (g * y.value.derivative(a),),
    "floor": lambda g, y, a: (g,),  # straight through
    "round": lambda g, y, a: (g,),  # straight through
}
FLAT = frozenset(
    {"detach", "sign", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "uniform", "normal", "input", "constant"}
)


def gradients(outputs: Sequence[Symbol], cotangents: Sequence[Symbol], wanted: Sequence[Symbol]) -> list[Symbol]:
    """The gradient of sum(outputs * cotangents) with respect to each wanted symbol, each taken as independent.

    >>> from ranvier.compile.symbol import Graph
    >>> graph = Graph(); x, g = graph.input("x"), graph.input("g")
    >>> [d] = gradients([x * x * 3.0], [g], [x]); d.op, sorted(s.op for s in topological([d]))
    ('add', ['add', 'constant', 'input', 'input', 'mul', 'mul'])
    """
    found: dict[int, Symbol] = {}

    def give(symbol: Symbol, g: Symbol) -> None:
        found[symbol.number] = found[symbol.number] + g if symbol.number in found else g

    for output, cotangent in zip(outputs, cotangents, strict=True):
        give(output, cotangent)
    ends = {symbol.number for symbol in wanted}
    for symbol in reversed(topological(outputs)):
        if symbol.number in found and symbol.number not in ends and symbol.op not in FLAT:
            for argument, g in zip(
                symbol.args, RULES[symbol.op](found[symbol.number], symbol, *symbol.args), strict=True
            ):
                if g is not None:
                    give(argument, g)
    zero = outputs[0].graph.constant(0.0)
    return [found.get(symbol.number, zero) for symbol in wanted]
