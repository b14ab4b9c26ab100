"""TC-LIF against the paper's equations, which take the reset of the step before."""

import pytest
import torch

import ranvier

F64 = torch.float64


def by_hand(inputs, beta_1, beta_2, gamma, threshold):
    """U_D[t] = U_D[t-1] + beta_1 U_S[t-1] + I[t] - gamma S[t-1]; U_S[t] = U_S[t-1] + beta_2 U_D[t] - threshold S[t-1]."""
    dendrite, soma, spike, spikes = 0.0, 0.0, 0.0, []
    for x in inputs:
        # beta_1 sees the soma after its reset, as the authors' program has it
        soma = soma - threshold * spike
        dendrite = dendrite + beta_1 * soma + x - gamma * spike
        soma = soma + beta_2 * dendrite
        spike = float(soma >= threshold)
        spikes.append(spike)
    return spikes, dendrite - gamma * spike, soma - threshold * spike


def test_with_reset_by_subtraction_it_is_the_paper_s_neuron():
    x = torch.randn(200, dtype=F64)
    given = {"beta_1": -0.375, "beta_2": 0.625, "gamma": 0.25, "threshold": 0.875}  # exact in float32
    layer = ranvier.TwoCompartmentLIF(**given, reset_mode="subtract")
    y, state = ranvier.run(layer, x.reshape(-1, 1, 1))
    spikes, dendrite, soma = by_hand(x.tolist(), **given)
    assert y.flatten().tolist() == spikes and 10 < sum(spikes) < 190
    assert [state["u"].item(), state["v"].item()] == pytest.approx([dendrite, soma], rel=1e-9)


@pytest.mark.parametrize(("reset_mode", "u", "v"), [("zero", 0.0, 0.0), ("subtract", 3.5, 1.0)])
def test_a_spike_resets_both_compartments(reset_mode, u, v):
    z, state = ranvier.run(ranvier.TwoCompartmentLIF(reset_mode=reset_mode), torch.full((1, 1, 1), 4.0))
    assert z.item() == 1 and (state["u"].item(), state["v"].item()) == (u, v)


def test_the_dendrite_remembers_what_a_leaky_membrane_forgets():
    """The gradient from the first input is as strong after 200 steps as after 2."""
    reach = {}
    for steps in (2, 200):
        x = torch.zeros(steps, 1, 1, dtype=F64, requires_grad=True)
        _, state = ranvier.run(ranvier.TwoCompartmentLIF(beta_1=-0.01, beta_2=0.1, threshold=50.0), x)
        reach[steps] = torch.autograd.grad(state["u"].sum(), x)[0][0].abs().item()
    assert reach[200] > 0.3 * reach[2]
