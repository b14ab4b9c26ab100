"""The memory remembers: its recurrence and its convolution agree, and polynomials read the past out of it."""

import math
import time

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import legval
from scipy.linalg import expm

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn.units.legendre_memory import LegendreMemory, impulse_response, legendre_matrices, powers

F64 = torch.float64


def sequence(steps, batch=2, features=(1,), dtype=torch.float32):
    return torch.randn(steps, batch, *features, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("order", "window", "dt"), [(1, 3.0, 1.0), (4, 7.0, 1.0), (12, 128.0, 2.0), (256, 128.0, 1.0)])
def test_the_matrices_are_the_differential_equation_held_over_a_step(order, window, dt):
    a, b = np.zeros((order, order)), np.zeros(order)
    for i in range(order):
        b[i] = (2 * i + 1) * (-1) ** i / window
        for j in range(order):
            a[i, j] = (2 * i + 1) / window * (-1 if i < j else (-1) ** (i - j + 1))
    held = expm(a * dt)
    transition, entry = legendre_matrices(order, window, dt)
    assert transition.dtype == F64 and np.allclose(transition, held, atol=1e-11)
    assert np.allclose(entry, np.linalg.solve(a, (held - np.eye(order)) @ b), atol=1e-11)
    assert np.abs(np.linalg.eigvals(held)).max() < 1


def test_convolution_and_recurrence_agree_at_the_size_of_the_paper(reference):
    """Float32, 128 steps, order 256, to 1e-4."""
    memory, x = LegendreMemory(256, 128.0), sequence(128)
    slow = memory(x)
    with ranvier.backend("fused"):
        fast = memory(x)
    assert fast.shape == (128, 2, 1, 256) and torch.allclose(fast, slow, atol=1e-4) and not torch.equal(fast, slow)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 31, 64, 65])
@pytest.mark.parametrize("features", [(), (1,), (3, 2)])
def test_both_forms_are_the_same_from_rest_and_from_a_state_with_their_gradients(steps, features):
    if not features:
        features = (4,)
    memory, x = LegendreMemory(5, 9.0), sequence(steps, features=features, dtype=F64)
    state = {"m": torch.randn(2, *features, 5, dtype=F64)}
    weight = torch.randn(steps, 2, *features, 5, dtype=F64)
    for given in (None, state):
        found = []
        for name in ("fused", "reference"):
            u = x.clone().requires_grad_()
            m = None if given is None else {"m": given["m"].clone().requires_grad_()}
            with ranvier.backend(name):
                y, after = ranvier.run(memory, u, m)
            leaves = [u] if m is None else [u, m["m"]]
            loss = (y * weight).sum() + after["m"].sum()
            found.append([y, after["m"], *torch.autograd.grad(loss, leaves)])
        for fast, slow in zip(*found, strict=True):
            assert torch.allclose(fast, slow, atol=1e-6)  # the reference's matrices are float32


def test_gradients_agree_with_finite_differences(reference):
    memory = LegendreMemory(3, 5.0).double()
    x, m = sequence(4, dtype=F64).requires_grad_(), torch.randn(2, 1, 3, dtype=F64, requires_grad=True)
    function = lambda x, m: memory.advance(x, {"m": m})[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, (x, m)) and torch.autograd.gradgradcheck(function, (x, m))


@pytest.mark.parametrize("sizes", [[40], [20, 20], [7, 1, 32], [1] * 40, [0, 40]])
def test_chunks_are_the_whole(sizes):
    memory, x = LegendreMemory(8, 16.0), sequence(40, features=(3,))
    whole, expected = ranvier.run(memory, x)
    state, parts = None, []
    for chunk in x.split(sizes):
        y, state = ranvier.run(memory, chunk, state)
        parts.append(y)
    assert torch.allclose(torch.cat(parts), whole, atol=2e-6) and torch.allclose(state["m"], expected["m"], atol=2e-6)


def delayed(order, cycles, window=128):
    """R2 of reading the input r windows ago, for inputs of up to so many cycles a window."""
    memory, steps = LegendreMemory(order, window).double(), 8 * window
    t, generator = torch.arange(steps, dtype=F64), torch.Generator().manual_seed(0)
    frequency = torch.linspace(0.1, 1, 6, dtype=F64) * cycles / window
    phase = 2 * math.pi * torch.rand(6, generator=generator, dtype=F64)
    u = torch.sin(2 * math.pi * frequency[:, None] * t + phase[:, None]).sum(0)
    m = memory(u[:, None, None])[:, 0, 0]
    scores = []
    for r in (0.25, 0.5, 1.0):
        readout = torch.tensor([legval(2 * r - 1, [0] * i + [1]) for i in range(order)], dtype=F64)
        back = int(r * window)
        read, truth = (m @ readout)[2 * window :], u[2 * window - back : steps - back]
        scores.append(float(1 - ((read - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()))
    return scores


def test_polynomials_read_the_delayed_input_up_to_a_sixth_of_the_order_in_cycles():
    assert min(delayed(12, 2)) > 0.99
    assert max(delayed(12, 4)) < 0.99


def test_training_time_grows_in_proportion_to_the_steps_and_not_their_square():
    """N log N: about 2 for twice the steps; the bound lies between that and 4."""
    memory = LegendreMemory(32, 128.0)
    inputs, least = [sequence(steps, 16).requires_grad_() for steps in (512, 2048)], [math.inf, math.inf]
    for _ in range(20):  # in turn, and the quickest of each: other work on the machine then hits both alike
        for i, x in enumerate(inputs):
            begun = time.process_time()
            memory(x).sum().backward()
            least[i] = min(least[i], time.process_time() - begun)
    assert least[1] / least[0] < 9  # of a loop over all pairs 16


def test_a_step_costs_the_same_after_many(reference):
    memory, x = LegendreMemory(4, 10.0), sequence(1)
    state = None
    for _ in range(20):
        y, state = ranvier.run(memory, x, state)
    assert y.shape == (1, 2, 1, 4) and {k: v.shape for k, v in state.items()} == {"m": (2, 1, 4)}


def test_powers_and_responses():
    transition, entry = legendre_matrices(3, 6.0)
    expected = [entry]
    for _ in range(6):
        expected.append(transition @ expected[-1])
    for steps in (1, 2, 5, 7):
        assert torch.allclose(impulse_response(3, 6.0, steps), torch.stack(expected[:steps]), atol=1e-14)
        assert len(powers(entry, transition, steps)) == steps


def test_16_bits_are_computed_in_32_and_given_back():
    memory, x = LegendreMemory(4, 6.0), sequence(20)
    x = x.bfloat16()
    y, state = ranvier.run(memory, x)
    assert y.dtype == torch.bfloat16 and state["m"].dtype == torch.float32
    assert torch.equal(y, memory(x.float()).bfloat16())


def test_it_is_compiled_and_exported():
    memory, x = LegendreMemory(4, 6.0), sequence(12)
    expected = memory(x)
    assert torch.allclose(torch.compile(memory, backend="aot_eager", fullgraph=True)(x), expected, atol=1e-5)
    assert torch.allclose(torch.export.export(memory, (x,)).module()(x), expected, atol=1e-5)


def test_it_is_recorded_and_saved():
    memory, x = torch.nn.Sequential(LegendreMemory(4, 6.0)), sequence(9)
    y, _, recorded = ranvier.run(memory, x, record=("m",))
    assert torch.equal(recorded["0.m"], y)
    assert sorted(memory.state_dict()) == ["0.entry", "0.transition"] and not list(memory.parameters())


def test_what_it_can_not_take_is_refused():
    for bad in (torch.zeros(3, 2), torch.zeros(3, 2, 1, dtype=torch.int64)):
        with pytest.raises(Refusal, match=r"LegendreMemory: expected floating-point \[T, B, \.\.\.features\]"):
            LegendreMemory(2, 3.0)(bad)
    for order, window in ((0, 3.0), (2, 0.0), (2, -1.0)):
        with pytest.raises(Refusal, match=r"legendre_matrices: expected an order of 1 or more, and a window"):
            LegendreMemory(order, window)
