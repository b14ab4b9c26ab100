"""A step as four lists of assignments: before the time loop, forward, backward, and after the backward loop."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ranvier.compile.cut import DRAWS, FUNCTIONS, fewest
from ranvier.compile.gradient import gradients
from ranvier.compile.symbol import RANDOM, Graph, Symbol, SymbolDraws, inputs, topological

Equation = Callable[[Symbol, Mapping[str, Symbol], Mapping[str, Symbol], SymbolDraws], Sequence[Symbol]]
"""x, parameters, states and random draws to the output and the new states."""


@dataclass(frozen=True, eq=False)
class Program:
    """What a kernel has to compute, as symbols. Inputs are named x, gy, s:NAME, gs:NAME, p:NAME and gh:INDEX."""

    states: tuple[str, ...]
    parameters: tuple[str, ...]
    learnt: tuple[str, ...]
    """The parameters that get a gradient."""
    fixed: tuple[Symbol, ...]
    """What depends on parameters alone, computed once before the loop."""
    output: Symbol
    after: tuple[Symbol, ...]
    """The states after the step."""
    grad_x: Symbol
    grad_states: tuple[Symbol, ...]
    grad_fixed: Mapping[int, Symbol]
    """By index in `fixed`: its gradient in one step, summed over the loop into gh:INDEX."""
    kept: tuple[Symbol, ...]
    """What backward computes of each step on its way forward and uses on its way back, beside x: as few as can be."""
    kept_in_cache: tuple[Symbol, ...]
    """The same where room is cheap and functions are dear: on a CPU none of them is computed once more on the way back."""
    grad_parameters: tuple[Symbol, ...]
    """The gradients of `learnt`, from gh:INDEX, after the loop."""


def program(
    equation: Equation,
    parameters: Sequence[str],
    states: Sequence[str],
    learnt: Sequence[str] = (),
    temporal: bool = True,
) -> Program:
    """Trace an equation and differentiate it.

    `temporal=False` cuts the gradient between steps: each step's states count as given.

    >>> leaky = program(lambda x, p, s, draws: [s["v"] * p["a"] + x] * 2, ["a"], ["v"], learnt=["a"])
    >>> leaky.output.op, leaky.fixed[0].value, leaky.grad_parameters[0].value
    ('add', 'p:a', 'gh:0')
    """
    graph = Graph()
    x = graph.input("x")
    p = {k: graph.input(f"p:{k}", fixed=True) for k in parameters}
    s = {k: graph.input(f"s:{k}") for k in states}
    draws = SymbolDraws(graph)
    y, *after = (graph.lift(value).to() for value in equation(x, p, s, draws))
    if len(after) != len(states):
        raise ValueError(
            f"step: expected the output and {len(states)} new states ({', '.join(states)}); got {len(after)} states"
        )

    gy = graph.input("gy")
    gs = [graph.input(f"gs:{k}") for k in states]
    everything = topological([y, *after])
    used = {a.number: a for symbol in everything if not symbol.fixed for a in symbol.args if a.fixed}
    used |= {o.number: o for o in (y, *after) if o.fixed}
    fixed = tuple(a for a in used.values() if a.op != "constant")
    wants = [any(f"p:{k}" in inputs([f]) for k in learnt) for f in fixed]
    # a parameter can reach the step through the surrogate's slope only; it counts as fixed there too
    found = gradients([y, *after], [gy, *gs], [x, *s.values(), *fixed])
    grad_x, grad_states, grad_fixed = found[0], found[1 : 1 + len(s)], found[1 + len(s) :]
    if not temporal:
        grad_states = [graph.constant(0.0)] * len(s)
    backward = topological([grad_x, *grad_states, *grad_fixed])
    late = {
        a.number: a for symbol in backward if not symbol.fixed for a in symbol.args if a.fixed and a.op != "constant"
    }
    fixed = (*fixed, *(a for a in late.values() if a.number not in used))
    summed = {i: grad_fixed[i] for i, wanted in enumerate(wants) if wanted}
    incoming = [symbol.value for symbol in (gy, *gs)]
    gh = [graph.input(f"gh:{i}", fixed=True) for i in summed]
    grad_parameters = (
        gradients([fixed[i] for i in summed], gh, [p[k] for k in learnt])
        if summed
        else [graph.constant(0.0)] * len(learnt)
    )

    def kept(costly: Collection[str]) -> tuple[Symbol, ...]:
        return tuple(k for k in fewest([grad_x, *grad_states, *summed.values()], incoming, costly) if k is not x)

    return Program(
        tuple(states),
        (*parameters, *(RANDOM if draws.stream else ())),
        tuple(learnt),
        fixed,
        y,
        tuple(after),
        grad_x,
        tuple(grad_states),
        summed,
        kept(DRAWS),
        kept(FUNCTIONS),
        tuple(grad_parameters),
    )
