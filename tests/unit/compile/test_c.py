"""The statements of a step in C."""

import math

import pytest

from ranvier.compile.c import c, literal, statements
from ranvier.compile.program import program


def test_what_is_given_is_not_computed_again() -> None:
    step = program(lambda x, p, s, draws: [(s["v"] / p["tau"]) + x, s["v"]], ["tau"], ["v"])
    lines, results = statements([step.output, *step.after], {step.fixed[0].number: "share[i]"})
    assert lines == ["const float t0 = s->v * share[i];", "const float t1 = t0 + x;"] and results == ["t1", "s->v"]


def test_random_steps_are_refused() -> None:
    step = program(lambda x, p, s, draws: [x + draws.normal(), s["v"]], [], ["v"])
    with pytest.raises(ValueError, match="without random numbers; got 'normal'"):
        c(step, "noisy")


def test_literals() -> None:
    assert literal(0.1) == "0.1f" and literal(math.nan) == "(0.0f / 0.0f)" and literal(-math.inf) == "(-1.0f / 0.0f)"
