"""The Izhikevich neuron against the program of its paper, and the firing patterns that it is known for."""

import pytest
import torch

import ranvier

F64 = torch.float64
PATTERNS = {
    "regular spiking": (0.02, 0.2, -65.0, 8.0),
    "intrinsically bursting": (0.02, 0.2, -55.0, 4.0),
    "chattering": (0.02, 0.2, -50.0, 2.0),
    "fast spiking": (0.1, 0.2, -65.0, 2.0),
    "low-threshold spiking": (0.02, 0.25, -65.0, 2.0),
}


def layer(pattern, **options):
    """With parameters in float64: a plain number is kept in float32."""
    given = {k: torch.tensor(v, dtype=F64) for k, v in zip("abcd", PATTERNS[pattern], strict=True)}
    return ranvier.Izhikevich(**given, **options)


def program(a, b, c, d, inputs):
    """The paper's loop: reset what has fired, then two half steps of v and one of u."""
    v, u, fired = -65.0, -65.0 * 0.2, []
    for t, x in enumerate(inputs):
        if v >= 30:
            fired.append(t - 1)
            v, u = c, u + d
        v = v + 0.5 * (0.04 * v**2 + 5 * v + 140 - u + x)
        v = v + 0.5 * (0.04 * v**2 + 5 * v + 140 - u + x)
        u = u + a * (b * v - u)
    return fired


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_fires_when_the_paper_s_program_does(pattern, backend):
    x = 10 + 5 * torch.randn(150, dtype=F64)  # longer, and the last bit of a number decides
    with ranvier.backend(backend):
        spikes = layer(pattern)(x.reshape(-1, 1, 1)).flatten()[:-1].nonzero().flatten()
    assert spikes.tolist() == program(*PATTERNS[pattern], x.tolist()) and len(spikes) > 2


def intervals(pattern):
    """In ms, over a second of a steady current. In steps of 0.1 ms the overshoot at the peak leaves them even."""
    y = layer(pattern, dt=0.1)(torch.full((10_000, 1, 1), 10.0, dtype=F64))
    return 0.1 * y.flatten().nonzero().flatten().diff().double()


def test_the_patterns_of_cortical_cells():
    regular, fast = intervals("regular spiking"), intervals("fast spiking")
    assert regular[0] < regular[1:].min()  # it adapts
    assert fast.mean() < 0.5 * regular[2:].mean() and fast[5:].std() < 2  # fast and even
    bursts = intervals("chattering")
    assert ((bursts < 6).double().mean() > 0.5) and (bursts > 15).any() and not ((bursts > 8) & (bursts < 12)).any()
    first = intervals("intrinsically bursting")
    assert (first[:2] < 10).all() and (first[4:] > 15).all()  # one burst, then single spikes


def test_a_spike_sets_v_to_c_and_raises_u_by_d():
    start = {"v": torch.tensor([[29.0]], dtype=F64), "u": torch.tensor([[-5.0]], dtype=F64)}
    z, state = ranvier.run(ranvier.Izhikevich(c=-50.0, d=2.0), torch.zeros(1, 1, 1, dtype=F64), start)
    v = 29.0
    for _ in range(2):
        v += 0.5 * (0.04 * v * v + 5 * v + 145)
    assert z.item() == 1 and state["v"].item() == -50.0
    assert state["u"].item() == pytest.approx(-5 + 0.02 * (0.2 * v + 5) + 2, rel=1e-6)


def test_a_detached_reset_lets_no_gradient_through_a_spike_of_v():
    start = {"v": torch.tensor([[29.0]], dtype=F64), "u": torch.tensor([[-5.0]], dtype=F64)}
    for detach, passes in ((False, True), (True, False)):
        x = torch.zeros(1, 1, 1, dtype=F64, requires_grad=True)
        _, state = ranvier.run(ranvier.Izhikevich(detach_reset=detach), x, start)
        assert bool(torch.autograd.grad(state["v"].sum(), x)[0].any()) is passes
