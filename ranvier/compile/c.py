"""A program's step as C99, for machines without Python."""

import math
import re
from collections.abc import Mapping, Sequence

from ranvier.compile.program import Program
from ranvier.compile.symbol import BOOLEAN, Symbol

_OPERATIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} && {1}",
    "or": "{0} || {1}",
    "not": "!{0}",
    "where": "{0} ? {1} : {2}",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
    "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "exp": "expf({0})",
    "log": "logf({0})",
    "tanh": "tanhf({0})",
    "sigmoid": "1.0f / (1.0f + expf(-{0}))",
    "sqrt": "sqrtf({0})",
    "sin": "sinf({0})",
    "cos": "cosf({0})",
    "atan": "atanf({0})",
    "erf": "erff({0})",
    "abs": "{0} < 0.0f ? -{0} : {0}",
    "sign": "(float)(({0} > 0) - ({0} < 0))",
    "floor": "floorf({0})",
    "round": "rintf({0})",
    "spike": "{0} >= 0.0f ? 1.0f : 0.0f",
    "detach": "{0}",
}
CALL = re.compile(r"\b([a-z]+f)\(")
"""A call of a function of math.h."""


def statements(outputs: Sequence[Symbol], given: Mapping[int, str] | None = None) -> tuple[list[str], list[str]]:
    """Assignments that compute symbols, and what each is called then; `given` are the names of symbols that are there.

    Raises: ValueError for a step that draws random numbers: a microcontroller brings its own.
    """
    lines: list[str] = []
    done = dict(given or {})

    def value(symbol: Symbol) -> str:
        if symbol.number not in done:
            if symbol.op == "constant":
                done[symbol.number] = literal(symbol.value)
            elif symbol.op == "input":
                done[symbol.number] = symbol.value.replace(":", "->")
            elif symbol.op in _OPERATIONS:
                text = _OPERATIONS[symbol.op].format(*(value(a) for a in symbol.args))
                kind = "int" if symbol.op in BOOLEAN else "float"
                done[symbol.number] = f"t{len(lines)}"
                lines.append(f"const {kind} t{len(lines)} = {text};")
            else:
                raise ValueError(
                    f"C: expected a step without random numbers; got {symbol.op!r}. Give the noise as input."
                )
        return done[symbol.number]

    return lines, [value(o) for o in outputs]


def literal(value: float) -> str:
    """A float of C.

    >>> literal(0.5), literal(-1e-30), literal(float("inf"))
    ('0.5f', '-1e-30f', '(1.0f / 0.0f)')
    """
    if not math.isfinite(value):
        return "(0.0f / 0.0f)" if math.isnan(value) else "(1.0f / 0.0f)" if value > 0 else "(-1.0f / 0.0f)"
    return f"{value!r}f"


def c(program: Program, name: str) -> str:
    """C99 text: a struct of parameters, one of state, and `float NAME_step(float x, params, state*)`.

    Raises: ValueError for a step that draws random numbers: a microcontroller brings its own.

    >>> from ranvier.compile.program import program
    >>> print(c(program(lambda x, p, s, draws: [s["v"] + p["tau"] * x] * 2, ["tau"], ["v"]), "leak"))
    #include <math.h>
    <BLANKLINE>
    typedef struct { float tau; } leak_parameters;
    typedef struct { float v; } leak_state;
    <BLANKLINE>
    static inline float leak_step(float x, const leak_parameters *p, leak_state *s) {
        const float t0 = p->tau * x;
        const float t1 = s->v + t0;
        s->v = t1;
        return t1;
    }
    <BLANKLINE>
    """
    lines, (output, *after) = statements([program.output, *program.after])
    # every new state is worked out before the first is written
    lines += [
        f"const float next_{k} = {text};"
        for k, text in zip(program.states, after, strict=True)
        if text.startswith("s->")
    ]
    lines += [
        f"s->{k} = {f'next_{k}' if text.startswith('s->') else text};"
        for k, text in zip(program.states, after, strict=True)
    ]
    fields = {
        "parameters": "".join(f" float {k};" for k in program.parameters),
        "state": "".join(f" float {k};" for k in program.states),
    }
    structs = "\n".join(f"typedef struct {{{text} }} {name}_{kind};" for kind, text in fields.items())
    body = "\n".join(f"    {line}" for line in [*lines, f"return {output};"])
    head = f"static inline float {name}_step(float x, const {name}_parameters *p, {name}_state *s) {{"
    return f"#include <math.h>\n\n{structs}\n\n{head}\n{body}\n}}\n"
