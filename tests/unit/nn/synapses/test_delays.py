"""The course of the width, and parameter groups."""

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn.synapses.delayed_conv import DelayedConv2d
from ranvier.nn.synapses.delayed_linear import DelayedLinear
from ranvier.nn.synapses.delays import SigmaSchedule, delay_groups


def test_the_width_shrinks_by_the_same_factor_each_epoch_of_the_first_quarter():
    model = nn.Sequential(DelayedLinear(3, 4, 24), ranvier.LIF(), DelayedLinear(4, 2, 30, sigma=6.0))
    schedule, widths = SigmaSchedule(model, epochs=40), []
    for epoch in range(40):
        schedule.step(epoch)
        widths.append([model[0].sigma.item(), model[2].sigma.item()])
    first = torch.tensor(widths)
    assert first[0].tolist() == [12.0, 6.0]
    factors = first[1:11] / first[:10]
    assert torch.allclose(factors, torch.tensor([(0.23 / 12) ** 0.1, (0.23 / 6) ** 0.1]).expand(10, 2), rtol=1e-5)
    assert torch.allclose(first[10:], torch.tensor(0.23))


def test_a_resumed_run_goes_on_where_it_was():
    layer = DelayedLinear(3, 4, 24)
    SigmaSchedule(layer, epochs=40).step(7)
    twin = DelayedLinear(3, 4, 24)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin.sigma, layer.sigma)
    SigmaSchedule(twin, epochs=40).step(8)
    SigmaSchedule(layer, epochs=40).step(8)
    assert torch.equal(twin.sigma, layer.sigma)


def test_a_width_that_is_learnt_or_narrow_is_left_alone():
    model = nn.Sequential(
        DelayedLinear(3, 4, 24, sigma=0.1), DelayedConv2d(1, 1, 3, elements=2, sigma=3.0, learn_sigma=True)
    )
    SigmaSchedule(model, epochs=4).step(3)
    assert model[0].sigma.item() == pytest.approx(0.1) and (model[1].sigma == 3.0).all()


@pytest.mark.parametrize("options", [{"epochs": 0}, {"epochs": 4, "part": 0.0}, {"epochs": 4, "end": 0.0}])
def test_a_course_without_length_or_end_is_refused(options):
    with pytest.raises(Refusal, match="SigmaSchedule: expected 1 epoch or more"):
        SigmaSchedule(DelayedLinear(3, 4, 24), **options)
    with pytest.raises(Refusal, match="SigmaSchedule: expected a model with delays or positions to learn; got Linear"):
        SigmaSchedule(nn.Linear(2, 2), epochs=4)


def test_delays_have_a_step_of_their_own_and_no_decay():
    model = nn.Sequential(DelayedLinear(3, 4, 24), nn.BatchNorm1d(4), DelayedConv2d(1, 2, 5, max_delay=3, elements=2))
    weights, delays = delay_groups(model, lr=2e-3, weight_decay=1e-4)
    assert (weights["lr"], weights["weight_decay"]) == (2e-3, 1e-4)
    assert (delays["lr"], delays["weight_decay"]) == (0.1, 0.0)
    places = [model[0].delay, model[2].delay, model[2].position]
    assert {id(p) for p in delays["params"]} == {id(p) for p in places}
    assert len(weights["params"]) + len(places) == len(list(model.parameters()))
    model[0].weight.grad, model[0].delay.grad = torch.zeros(4, 3), torch.zeros(4, 3)
    before = model[0].delay.detach().clone()
    torch.optim.AdamW([weights, delays]).step()
    assert torch.equal(model[0].delay, before)
