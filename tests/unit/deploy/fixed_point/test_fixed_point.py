"""Programs in whole numbers: as good as floats, never out of 32 bits, and refused where they can't be."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.compile.fixed_point import HIGH, LIMIT, LOW, Incoming, carried_out, planned, shifted
from ranvier.compile.program import program as traced
from ranvier.core.checks import Refusal
from ranvier.data.sets.digits import Digits
from ranvier.deploy.engine.program import compile
from ranvier.deploy.fixed_point.program import fixed_point
from ranvier.deploy.fixed_point.reference import Reference


def reference(model: nn.Module, x: Tensor, numbers: str) -> Reference:
    shape = tuple(x.shape[2:])
    return Reference(fixed_point(compile(model, shape, skip=False), numbers, x), x.shape[1])


def test_decisions_on_digits_are_within_a_point_of_those_in_floats() -> None:
    train, test = Digits().load("train").batch(), Digits().load("test").batch()
    neurons = [ranvier.LIF(tau=2.0, threshold=0.5), ranvier.LeakyIntegrator(tau=4.0)]
    first = [ranvier.Direct(6), nn.Flatten(2), ranvier.Linear(64, 48), neurons[0], ranvier.Linear(48, 10), neurons[1]]
    model = nn.Sequential(*first, ranvier.RateDecoder())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(5 * model(train.x), train.y).backward()
        optimiser.step()
    with torch.no_grad():
        floats = float((model(test.x).argmax(1) == test.y).float().mean())
    program = compile(model, tuple(test.x.shape[2:]), skip=False)
    assert floats > 0.9
    for numbers, gap in (("int8", 0.01), ("int16", 0.003)):
        fixed = fixed_point(program, numbers, train.x[:, :64])
        found = Reference(fixed, test.x.shape[1]).run(test.x).argmax(1)
        assert float((found == test.y).float().mean()) >= floats - gap


@pytest.mark.parametrize("numbers", ["int8", "int16"])
def test_outputs_are_near_those_in_floats(numbers: str) -> None:
    layers = [ranvier.Linear(5, 16), ranvier.LeakyIntegrator(), ranvier.Linear(16, 4), ranvier.LeakyIntegrator()]
    model, x = nn.Sequential(*layers), torch.randn(20, 3, 5)
    y = model(x).detach()
    assert (reference(model, x, numbers).run(x) - y).abs().max() < (0.02 if numbers == "int8" else 1e-3) * y.abs().max()


def test_no_number_leaves_its_bits_whatever_comes_in() -> None:
    layers = [ranvier.Linear(200, 30), ranvier.LeakyIntegrator(), ranvier.Linear(30, 20), ranvier.IF()]
    for numbers in ("int8", "int16"):
        one = reference(nn.Sequential(*layers, ranvier.Linear(20, 4)), torch.randn(10, 2, 200), numbers)
        kinds = one.program.formats
        for sign in (1, -1):
            for _ in range(300):
                one.step(np.full((2, 200), sign * 10**9))
                for number, value in one.values.items():
                    assert np.abs(value).max(initial=0) <= 2**31 - 1
                    if number in kinds and number in one.program.memory.values():
                        assert kinds[number].low <= value.min() and value.max() <= kinds[number].high


def test_scales_are_powers_of_two_of_each_output_and_of_each_channel() -> None:
    linear = ranvier.Linear(3, 4, bias=False)
    with torch.no_grad():
        linear.weight[:] = torch.tensor([[1.0], [0.1], [0.0], [100.0]]) * torch.tensor([1.0, -0.5, 0.25])
    program = reference(nn.Sequential(linear, ranvier.LIF()), torch.ones(3, 1, 3), "int8").program
    dense = next(op for op in program.ops if op.kind == "dense")
    assert program.arrays[dense["weights"]].T.tolist() == [[64, -32, 16], [102, -51, 26], [0, 0, 0], [100, -50, 25]]
    conv = ranvier.Conv2d(1, 2, 3, bias=False)
    with torch.no_grad():
        conv.weight[0], conv.weight[1] = 1.0, 0.01
    program = reference(nn.Sequential(conv, ranvier.LIF()), torch.ones(3, 1, 1, 5, 5), "int8").program
    scatter = next(op for op in program.ops if op.kind == "scatter")
    assert sorted(set(program.arrays[scatter["weights"]].tolist())) == [64, 82]


def test_a_plan_rounds_halves_up_clips_and_is_exact_elsewhere() -> None:
    step = traced(lambda x, p, s, draws: [(s["v"] + x) * p["a"], s["v"] + x], ["a"], ["v"])
    wide = Incoming(4, LOW, HIGH)
    plan = planned(step, [np.float32([0.5])], 4, {"x": wide, "s:v": wide})
    v, x = np.array([3, -3, 1, HIGH, LOW]), np.array([0, 0, 0, HIGH, LOW])
    results = carried_out(plan, {"x": x, "s:v": v})
    assert results[plan.output].tolist() == [2, -1, 1, 2**30, -(2**30)]
    assert results[plan.after[0]].tolist() == [3, -3, 1, LIMIT, -LIMIT]
    assert shifted(np.array([5, -5, 6]), -2).tolist() == [1, -1, 2]


def test_refusals() -> None:
    x = torch.rand(4, 2, 3)
    with pytest.raises(Refusal, match="got sigmoid of what changes"):
        reference(nn.Sequential(ranvier.Linear(3, 2), ranvier.ComplementaryLIF()), x, "int8")
    with pytest.raises(Refusal, match="'int8' or 'int16'; got 'int32'"):
        reference(nn.Sequential(ranvier.Linear(3, 2), ranvier.LIF()), x, "int32")
    with pytest.raises(Refusal, match="finite data; got none"):
        reference(nn.Sequential(ranvier.Linear(3, 2), ranvier.LIF()), x[:, :0], "int8")
