import pytest
import torch

import ranvier
from ranvier.compile.program import program
from ranvier.compile.symbol import RANDOM, inputs, topological


def traced(neuron, learnt=()):
    return neuron._program(tuple(learnt))


def in_the_loop(program, backward=False):
    """The operations that a kernel does at every step."""
    wanted = [program.output, *program.after]
    if backward:
        wanted = [program.grad_x, *program.grad_states, *program.grad_fixed.values()]
    before = {f.number for f in program.fixed}
    found, stack = set(), list(wanted)
    while stack:
        symbol = stack.pop()
        if symbol.number not in before and symbol.op not in ("input", "constant"):
            found.add(symbol.op)
            stack.extend(symbol.args)
    return found


def test_what_depends_on_parameters_alone_is_done_before_the_loop():
    exact = traced(ranvier.LIF(discretisation="exact"), ["tau", "threshold"])
    assert "exp" in {s.op for s in topological(exact.fixed)}
    for backward in (False, True):
        assert not in_the_loop(exact, backward) & {"exp", "div"} - ({"div"} if backward else set())
    assert in_the_loop(exact) == {"add", "sub", "mul", "spike"}
    assert all(f.fixed and f.op != "constant" for f in exact.fixed)
    assert len({f.number for f in exact.fixed}) == len(exact.fixed)


def test_a_condition_on_parameters_is_fixed_too():
    def equation(x, p, s, draws):
        return [torch.where(p["a"] > 0, x, -x)]

    assert [f.op for f in program(equation, ["a"], [], ["a"]).fixed] == ["gt"]


def test_a_division_by_a_parameter_leaves_a_product_in_the_loop():
    made = program(lambda x, p, s, draws: [x / p["tau"], s["v"] / (2 * p["tau"])], ["tau"], ["v"])
    assert in_the_loop(made) == {"mul"} and [f.op for f in made.fixed] == ["div", "div"]


def test_names_of_inputs():
    made = traced(ranvier.AdaptiveLIF(), ["tau", "beta"])
    assert made.states == ("v", "w") and made.parameters == ("tau", "tau_adaptation", "beta", "threshold")
    assert inputs([made.output, *made.after]) <= {"x", "s:v", "s:w", *(f"p:{k}" for k in made.parameters)}
    assert inputs([made.grad_x, *made.grad_states]) - inputs([made.output, *made.after]) == {"gy", "gs:v", "gs:w"}
    assert inputs(made.grad_parameters) <= {
        *(f"gh:{i}" for i in made.grad_fixed),
        *(f"p:{k}" for k in made.parameters),
    }


@pytest.mark.parametrize("learnt", [(), ("tau",), ("threshold",), ("threshold", "tau")])
def test_only_what_is_learnt_is_summed_over_the_loop(learnt):
    made = traced(ranvier.LIF(reset_mode="subtract"), learnt)
    assert made.learnt == learnt and len(made.grad_parameters) == len(learnt)
    for index in made.grad_fixed:
        assert inputs([made.fixed[index]]) & {f"p:{k}" for k in learnt}
    assert len(made.grad_fixed) == len(learnt)


def test_a_learnt_parameter_without_influence_gets_zero():
    made = program(lambda x, p, s, draws: [x * p["a"]], ["a", "b"], [], ["a", "b"])
    assert made.grad_parameters[1].op == "constant" and made.grad_parameters[1].value == 0
    assert made.grad_parameters[0].value == "gh:0"


def test_a_parameter_that_only_the_slope_sees_is_fixed_in_the_backward_loop():
    def equation(x, p, s, draws):
        return [ranvier.LIF().spike(x) * p["a"].detach()]

    made = program(equation, ["a"], [], ["a"])
    assert made.grad_parameters[0].op == "constant" and "p:a" in inputs([made.grad_x])


def test_without_the_temporal_gradient_nothing_passes_to_the_step_before():
    full, cut = (traced(ranvier.LIF(temporal_grad=kind), ["tau"]) for kind in ("full", "none"))
    assert all(g.op == "constant" and g.value == 0 for g in cut.grad_states) and full.grad_states[0].op != "constant"
    assert "gs:v" in inputs([cut.grad_x])  # within the step it does


def test_random_words_are_parameters_of_equations_that_draw():
    class Dice(ranvier.Neuron):
        random = True
        a = ranvier.Parameter(1.0)
        v = ranvier.State()

        def step(self, x, v):
            return self.uniform() + self.uniform() * self.normal(), v

    made = traced(Dice())
    assert made.parameters == ("a", *RANDOM) and "t" in inputs([made.output])
    draws = [s for s in topological([made.output]) if s.op in ("uniform", "normal")]
    assert sorted(s.value for s in draws) == [0, 1, 2]  # streams: no draw is another's
    assert traced(ranvier.LIF()).parameters == ("tau", "threshold")


def test_an_output_that_is_a_parameter_or_a_number():
    made = program(lambda x, p, s, draws: [p["a"], 2.0], ["a"], ["v"], ["a"])
    assert made.output.value == "p:a" and made.after[0].value == 2.0 and made.fixed == (made.output,)
