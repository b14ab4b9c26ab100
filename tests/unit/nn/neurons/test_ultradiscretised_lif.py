"""What is special about UltradiscretisedLIF; the rest is in tests/contract/test_neurons.py."""

import math

import pytest
import torch

import ranvier

F64 = torch.float64


@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
@pytest.mark.parametrize("graded", [True, False])
def test_outputs_states_and_gradients_are_those_of_the_equation(graded, reset_mode, detach_reset, agrees):
    def equation(x, v, p, fire):
        eps = p["epsilon"]
        v = eps * torch.log(torch.exp((v + torch.log(1 - 1 / p["tau"])) / eps) + torch.exp(x / eps))
        z = torch.sigmoid(p["slope"] / eps * (v - p["threshold"])) if graded else fire(v - p["threshold"])
        s = z.detach() if detach_reset else z
        return z, v - s * (p["threshold"] if reset_mode == "subtract" else v)

    options = {"graded": graded, "reset_mode": reset_mode, "detach_reset": detach_reset}
    agrees(ranvier.UltradiscretisedLIF, equation, threshold=1.0, **options)


def test_a_step_worked_out_by_hand():
    start = {"v": torch.full((1, 1), 0.3, dtype=F64)}
    z, state = ranvier.run(ranvier.UltradiscretisedLIF(epsilon=0.5), torch.full((1, 1, 1), 0.2, dtype=F64), start)
    v = 0.5 * math.log(math.exp((0.3 + math.log(0.9)) / 0.5) + math.exp(0.2 / 0.5))
    s = 1 / (1 + math.exp(-v / 0.5))
    assert z.item() == pytest.approx(s) and state["v"].item() == pytest.approx(v * (1 - s))


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 1.0])
def test_the_membrane_is_above_the_maximum_by_at_most_epsilon_log_two(epsilon):
    v, x = 5 * torch.randn(1, 100_000, dtype=F64), 5 * torch.randn(1, 1, 100_000, dtype=F64)
    neuron = ranvier.UltradiscretisedLIF(epsilon=epsilon, threshold=1e6)  # it never fires
    _, state = ranvier.run(neuron, x, {"v": v})
    above = state["v"] - torch.maximum(v + math.log(0.9), x[0])
    assert above.min() >= 0 and above.max() <= epsilon * math.log(2) + 1e-12


def test_its_gradient_is_exact_without_a_surrogate():
    x = torch.randn(5, 2, 3, dtype=F64, requires_grad=True)
    p = [torch.full((3,), value, dtype=F64, requires_grad=True) for value in (5.0, 0.5, 0.7, 1.3)]

    def outputs(x, *values):
        step = ranvier.UltradiscretisedLIF().bind(F64)
        step.tau, step.threshold, step.epsilon, step.slope = values
        v, found = torch.zeros(2, 3, dtype=F64), []
        for x_t in x:
            z, v = step.step(x_t, v)
            found.append(z)
        return torch.stack(found), v

    assert torch.autograd.gradcheck(outputs, (x, *p))


@pytest.mark.parametrize("epsilon", [0.2, 0.1, 0.05, 0.02, 0.01])
def test_away_from_the_threshold_it_fires_like_the_neuron_of_max_plus_algebra(epsilon):
    x, v, away, spikes = 0.6 + 0.6 * torch.randn(200, 1, 400, dtype=F64), 0.0, [], []
    for x_t in x:
        v = torch.maximum(torch.as_tensor(v, dtype=F64) + math.log(0.9), x_t)
        away.append((v - 1).abs() > 5 * epsilon)
        spikes.append(v >= 1)
        v = v * (v < 1)
    graded = ranvier.UltradiscretisedLIF(threshold=1.0, epsilon=epsilon)(x)
    assert ((graded >= 0.5) == torch.stack(spikes))[torch.stack(away)].all()


def test_not_graded_it_fires_where_the_graded_spike_is_a_half():
    x = torch.randn(1, 4, 1000)
    graded, hard = (ranvier.UltradiscretisedLIF(threshold=0.7, graded=g)(x) for g in (True, False))
    assert torch.equal(hard, (graded >= 0.5).float()) and 0.1 < hard.mean() < 0.9
