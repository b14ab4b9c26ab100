"""A neuron's equation with a norm in front of it, or of its membrane: the same step with a few more parameters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ranvier.compile.plan import Equation, equations, known_as
from ranvier.compile.program import Program, program
from ranvier.compile.symbol import Graph, Symbol, SymbolDraws, inputs
from ranvier.nn.neurons.neuron import Bound, Neuron

LINE = ("norm_mean", "norm_scale", "norm_shift")
MEMBRANE = ("membrane_mean", "membrane_scale", "membrane_shift")


def normalised_equation(name: str, line: bool, membrane: bool) -> str:
    """The name of a neuron's equation, itself known as `name`, with the parameters of LINE and of MEMBRANE after its own.

    x becomes norm_scale (x - norm_mean) + norm_shift, and what is compared with the threshold likewise.
    """
    if not line and not membrane:
        return name

    def make() -> Equation:
        own = equations[name]
        alike: Neuron = own.trace.__self__  # type: ignore[attr-defined]  # the neuron without its parameters
        parameters = (*own.parameters, *(LINE if line else ()), *(MEMBRANE if membrane else ()))

        def trace(learnt: tuple[str, ...]) -> Program:
            def equation(
                x: Symbol, p: Mapping[str, Symbol], s: Mapping[str, Symbol], draws: SymbolDraws
            ) -> Sequence[Symbol]:
                bound = alike._bound(alike, p)
                if alike.random:
                    bound.draws = draws
                if line:
                    mean, scale, shift = (p[k] for k in LINE)
                    x = (x - mean) * scale + shift
                if membrane:
                    mean, scale, shift = (p[k] for k in MEMBRANE)
                    # u is the membrane less the threshold: the differences leave the time loop
                    centre, offset = mean - p["threshold"], shift - p["threshold"]
                    fires_by(bound, lambda u: (u - centre) * scale + offset)
                result: Sequence[Symbol] = bound.step(x, *s.values())
                return result

            return program(equation, parameters, own.states, learnt, alike.temporal_grad == "full")

        return Equation(parameters, own.states, own.rest, trace)

    return known_as(("normalised", name, line, membrane), f"normalised {name}", make)


# what torch.compiler.assume_constant_result does, whose import takes a second
normalised_equation._dynamo_marked_constant = True  # type: ignore[attr-defined]


def fires_by(bound: Bound, change: Callable[[Any], Any]) -> None:
    """Let a neuron fire by `change(u)` in place of u, the membrane less the threshold."""
    bound.spike = lambda u: bound.neuron.spike(change(u))  # type: ignore[attr-defined]


def compares_once(neuron: Neuron) -> bool:
    """Whether a step compares one membrane with `threshold`, once: spike(v - self.threshold) and no other spike."""
    if "threshold" not in neuron.declared:
        return False
    graph = Graph()
    tested: list[Symbol] = []
    p = {k: graph.input(f"p:{k}", fixed=True) for k in neuron.declared}
    bound = neuron._bound(neuron, p)
    bound.draws = SymbolDraws(graph)

    def seen(u: Symbol) -> Symbol:
        tested.append(u)
        return u

    fires_by(bound, seen)
    bound.step(graph.input("x"), *(graph.input(f"s:{k}") for k in neuron.states))
    return len(tested) == 1 and tested[0].op == "sub" and tested[0].args[1] is p["threshold"]


def threshold_only_tested(neuron: Neuron) -> bool:
    """Whether `threshold` has no other part in a step than that test, as under reset_mode="zero"."""
    graph = Graph()
    p = {k: graph.input(f"p:{k}", fixed=True) for k in neuron.declared}
    bound = neuron._bound(neuron, p)
    bound.draws = SymbolDraws(graph)
    tested: list[Symbol] = []

    def fired(u: Symbol) -> Symbol:
        tested.append(u.args[0])
        return graph.input("z")

    bound.spike = fired  # type: ignore[attr-defined]
    outputs = bound.step(graph.input("x"), *(graph.input(f"s:{k}") for k in neuron.states))
    return "p:threshold" not in inputs([*(graph.lift(o) for o in outputs), *tested])
