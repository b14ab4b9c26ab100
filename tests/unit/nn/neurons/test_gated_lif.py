"""What is special about GatedLIF; the rest is in tests/contract/test_neurons.py."""

import pytest
import torch

import ranvier

F64 = torch.float64
OPEN, SHUT = 30.0, -30.0


def drive():
    return 1.5 * torch.rand(60, 2, 7, dtype=F64)


@pytest.mark.parametrize("detach_reset", [False, True])
def test_outputs_states_and_gradients_are_those_of_the_equation(detach_reset, agrees):
    def equation(x, v, p, fire):
        al, be, ga = (1 / (1 + torch.exp(-p[k])) for k in ("alpha", "beta", "gamma"))
        u = v - (1 - al) * p["leak"] + (1 - be * (1 - p["conductance"])) * x
        z = fire(u - p["threshold"])
        s = z.detach() if detach_reset else z
        return z, (1 - al / p["tau"]) * u * (1 - ga * s) - (1 - ga) * p["v_subreset"] * s

    agrees(ranvier.GatedLIF, equation, detach_reset=detach_reset)


def test_it_is_the_papers_recursion_in_which_the_next_step_does_the_reset():
    p = {k: torch.rand(7, dtype=F64) for k in ("alpha", "beta", "gamma", "leak", "conductance", "v_subreset")}
    x, u, z, spikes = drive(), torch.zeros(2, 7, dtype=F64), torch.zeros(2, 7, dtype=F64), []
    al, be, ga = (torch.sigmoid(p[k]) for k in ("alpha", "beta", "gamma"))
    for x_t in x:
        decayed = (1 - al * (1 - 0.25)) * u * (1 - ga * z) - (1 - al) * p["leak"]
        u = decayed + (1 - be * (1 - p["conductance"])) * x_t - (1 - ga) * p["v_subreset"] * z
        z = (u >= 0.5).to(F64)
        spikes.append(z)
    assert torch.equal(ranvier.GatedLIF(**p)(x), torch.stack(spikes)) and 0.1 < torch.stack(spikes).mean() < 0.9


@pytest.mark.parametrize("tau", [1.5, 4.0])
def test_with_every_gate_open_it_is_a_lif_that_resets_to_zero(tau):
    gates = {"alpha": OPEN, "beta": OPEN, "gamma": OPEN}
    gated = ranvier.GatedLIF(**gates, tau=tau, conductance=torch.tensor(1 / tau, dtype=F64), threshold=0.6)
    x = drive()
    assert torch.equal(gated(x), ranvier.LIF(tau=tau, threshold=0.6)(x)) and gated(x).any()


def test_with_the_gate_of_the_reset_shut_it_subtracts():
    gated = ranvier.GatedLIF(alpha=OPEN, beta=OPEN, gamma=SHUT, tau=2.0, conductance=0.5, threshold=0.6, v_subreset=0.3)
    x = drive()
    assert torch.equal(gated(x), ranvier.LIF(tau=2.0, threshold=0.6, reset_mode="subtract")(x))


def test_with_the_gate_of_the_leak_shut_it_leaks_the_same_in_every_step():
    gated = ranvier.GatedLIF(alpha=SHUT, beta=SHUT, gamma=OPEN, leak=0.1, threshold=0.55)
    z, state = ranvier.run(gated, torch.full((5, 1, 1), 0.3, dtype=F64))  # 0.2, 0.4, 0.6; 0.2, 0.4
    assert z.flatten().tolist() == [0, 0, 1, 0, 0] and state["v"].item() == pytest.approx(0.4)
