"""Early activity is pulled towards the direction of late activity, and only where the answer is right."""

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.learn.rcs_regulariser import RCSRegulariser


def network():
    return nn.Sequential(ranvier.Linear(5, 6), ranvier.LIF(threshold=0.3), ranvier.Linear(6, 3), ranvier.LIF())


def by_hand(spikes, v, threshold, late, aim=None):
    activity = (spikes + torch.relu(v) / threshold).flatten(2)
    aim = activity[-late:].mean(0).detach() if aim is None else aim
    cost = []
    for b in range(activity.shape[1]):
        cosine = [
            (r @ aim[b]) / ((r @ r + 1e-5).sqrt() * (aim[b] @ aim[b] + 1e-5).sqrt()) for r in activity[:, b].unbind(0)
        ]
        cost.append(1 / (sum(cosine) / len(cosine) + 1e-5))
    return torch.stack(cost)


def test_costs_are_those_by_hand_for_every_layer():
    model, x = network(), torch.rand(7, 4, 5)
    _, _, seen = ranvier.run(model, x, record=RCSRegulariser.records)
    costs = RCSRegulariser(model).costs(seen)
    assert costs.shape == (2, 4)
    torch.testing.assert_close(costs[0], by_hand(seen["1.spikes"], seen["1.v"], 0.3, 2))
    torch.testing.assert_close(costs[1], by_hand(seen["3.spikes"], seen["3.v"], 1.0, 2))


def test_the_cost_is_one_or_more_and_one_for_constant_activity():
    regulariser = RCSRegulariser(nn.Sequential(ranvier.LIF()))
    v = torch.rand(9, 20, 8) + 0.1
    seen = {"0.spikes": (torch.rand(9, 20, 8) < 0.3).float(), "0.v": v}
    assert bool((regulariser.costs(seen) >= 1).all())
    constant = {name: value[:1].expand_as(value) for name, value in seen.items()}
    torch.testing.assert_close(regulariser.costs(constant), torch.ones(1, 20), atol=5e-5, rtol=0)
    far = {"0.spikes": torch.zeros(9, 20, 8), "0.v": -v}  # nothing fired, no membrane above rest: no direction at all
    assert bool(regulariser.costs(far).isfinite().all())


def test_no_gradient_flows_into_the_direction():
    regulariser = RCSRegulariser(nn.Sequential(ranvier.LIF()), share=0.5)
    v = torch.rand(6, 2, 4, dtype=torch.float64).requires_grad_()
    spikes = torch.zeros(6, 2, 4, dtype=torch.float64)
    (found,) = torch.autograd.grad(regulariser.costs({"0.spikes": spikes, "0.v": v}).sum(), v)
    fixed = v.detach()[-3:].mean(0)
    (expected,) = torch.autograd.grad(by_hand(spikes, v, 1.0, 3, aim=fixed).sum(), v)
    torch.testing.assert_close(found, expected)


def test_only_samples_right_at_all_late_steps_count_and_by_their_costliest_layer():
    model, x = network(), torch.rand(4, 3, 5)
    _, _, seen = ranvier.run(model, x, record=RCSRegulariser.records)
    regulariser = RCSRegulariser(model, share=0.5, alpha=0.1)
    outputs, labels = torch.zeros(4, 3, 2), torch.tensor([1, 1, 1])
    outputs[2:, :2, 1] = 1.0  # two samples are right late
    outputs[3, 1] = torch.tensor([2.0, 0.0])  # but the second not at the last step
    each = regulariser.each(seen, outputs, labels)
    torch.testing.assert_close(each[0], 0.1 * regulariser.costs(seen)[:, 0].max())
    assert each[1:].tolist() == [0.0, 0.0]
    torch.testing.assert_close(regulariser(seen, outputs, labels), each.mean())


@pytest.mark.parametrize(("share", "steps", "late"), [(0.3, 20, 6), (0.3, 2, 1), (0.0, 5, 1), (1.0, 5, 5)])
def test_late_steps_are_a_share_and_at_least_one(share, steps, late):
    assert RCSRegulariser(network(), share=share).late(steps) == late


def test_training_with_it_lowers_the_cost():
    torch.manual_seed(1)
    model, x = network(), torch.rand(10, 8, 5)
    regulariser, made = RCSRegulariser(model, alpha=1.0), torch.optim.Adam(model.parameters(), 0.02)
    first = last = 0.0
    for i in range(30):
        _, _, seen = ranvier.run(model, x, record=RCSRegulariser.records)
        loss = regulariser.costs(seen).amax(0).mean()
        made.zero_grad()
        loss.backward()
        made.step()
        first, last = (loss.item() if i == 0 else first), loss.item()
    assert last - 1 < 0.1 * (first - 1)


def test_layers_that_hold_a_neuron_count_once():
    norm = ranvier.BatchNorm(5)
    model = nn.Sequential(ranvier.Normalised(norm, ranvier.LIF()), ranvier.Recurrent(ranvier.LIF(), nn.Linear(5, 5)))
    _, _, seen = ranvier.run(model, torch.rand(4, 3, 5), record=RCSRegulariser.records)
    assert RCSRegulariser(model).costs(seen).shape == (2, 3)


def test_what_it_cannot_work_on_is_refused():
    with pytest.raises(Refusal, match="without any"):
        RCSRegulariser(nn.Linear(2, 2))
    with pytest.raises(Refusal, match="thresholds above 0"):
        RCSRegulariser(ranvier.LIF(threshold=0.0))
    with pytest.raises(Refusal, match="share"):
        RCSRegulariser(network(), share=1.5)
    with pytest.raises(Refusal, match="alpha"):
        RCSRegulariser(network(), alpha=-1.0)
    with pytest.raises(Refusal, match=r"record=RCSRegulariser\.records"):
        RCSRegulariser(network()).costs({})
    with pytest.raises(Refusal, match="decoder that ends time"):
        RCSRegulariser(network()).each({}, torch.zeros(2, 3), torch.zeros(2))
