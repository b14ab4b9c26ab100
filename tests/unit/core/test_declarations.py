import math

import pytest
import torch

from ranvier.core.checks import Refusal
from ranvier.core.declarations import Parameter, checked, within


def test_dt_scales_default_and_bounds_only_of_what_has_the_unit_of_dt():
    assert Parameter(2.0, unit="dt", low=1.0, high=8.0).scaled(0.5) == (1.0, 0.5, 4.0)
    assert Parameter(2.0, low=1.0).scaled(0.5) == (2.0, 1.0, math.inf)


def test_within_clamps_and_leaves_the_unbounded_alone():
    value = torch.tensor([-1.0, 0.0, 0.5, 1.0, 3.0])
    assert within(value, 0.0, 1.0).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert within(value, -math.inf, math.inf) is value


@pytest.mark.parametrize(
    ("value", "grad", "passes"),
    [
        (0.5, 1.0, True),
        (0.5, -1.0, True),
        (0.0, 1.0, False),  # at the lower bound, descent leads down and out
        (0.0, -1.0, True),
        (-1.0, 1.0, False),
        (-1.0, -1.0, True),  # below it, descent leads back
        (1.0, -1.0, False),
        (1.0, 1.0, True),
        (3.0, -1.0, False),
        (3.0, 1.0, True),
    ],
)
def test_within_passes_the_gradient_unless_descent_would_lead_further_out(value, grad, passes):
    x = torch.tensor(value, requires_grad=True)
    within(x, 0.0, 1.0).backward(torch.tensor(grad))
    assert x.grad.item() == (grad if passes else 0.0)


@pytest.mark.parametrize(("start", "goal"), [(-2.0, 0.3), (4.0, 0.7)])
def test_descent_brings_a_value_back_from_outside(start, goal):
    x = torch.tensor(start, requires_grad=True)
    optimiser = torch.optim.SGD([x], lr=0.2)
    for _ in range(100):
        optimiser.zero_grad()
        (within(x, 0.0, 1.0) - goal).square().backward()
        optimiser.step()
    assert x.item() == pytest.approx(goal, abs=1e-3)


def test_within_agrees_with_finite_differences_inside():
    x = torch.linspace(0.1, 0.9, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: within(x, 0.0, 1.0), x)
    assert torch.autograd.gradgradcheck(lambda x: within(x, 0.0, 1.0).square(), x)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_checked_refuses_what_is_out_of_bounds_or_not_finite_by_name_and_value(bad):
    with pytest.raises(Refusal, match=rf"LIF\.tau: expected finite values in \[0, 1\]; got {bad:g} \(and 1 more\)"):
        checked("LIF", "tau", torch.tensor([0.5, bad, bad]), 0.0, 1.0)


def test_checked_accepts_the_bounds_themselves_and_makes_integers_real():
    value = checked("LIF", "tau", torch.tensor([0, 1]), 0.0, 1.0)
    assert value.tolist() == [0.0, 1.0] and value.dtype == torch.get_default_dtype()
