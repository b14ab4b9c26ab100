"""Neurons against their equations, written by hand from the literature, with a step in place of every surrogate.

A neuron of a new file has its equation here, or in a file of tests of its own.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.discovery import discover

NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
SURROGATES = [
    *(ranvier.Arctan, ranvier.Sigmoid, ranvier.FastSigmoid),
    *(ranvier.Triangle, ranvier.Rectangle, ranvier.Gaussian),
]
OWN_TESTS = Path(__file__).parents[1] / "unit" / "nn" / "neurons"
F64 = torch.float64


# The equations as the literature writes them, one step each: (x, states, p, decay, fire, reset) -> (output, states)


def lif(x, states, p, decay, fire, reset):
    (v,), a = states, decay(p["tau"])
    v = a * v + (1 - a) * x
    z = fire(v, p["threshold"])
    return z, [reset(v, z, p["threshold"])]


def leaky_integrator(x, states, p, decay, fire, reset):
    (v,), a = states, decay(p["tau"])
    v = a * v + (1 - a) * x
    return v, [v]


def cuba_lif(x, states, p, decay, fire, reset):
    (i, v), a = states, decay(p["tau"])
    i = decay(p["tau_synapse"]) * i + x
    v = a * v + (1 - a) * i
    z = fire(v, p["threshold"])
    return z, [i, reset(v, z, p["threshold"])]


def adaptive_lif(x, states, p, decay, fire, reset):
    (v, w), a, b = states, decay(p["tau"]), decay(p["tau_adaptation"])
    v = a * v + (1 - a) * x
    theta = p["threshold"] + p["beta"] * w
    z = fire(v, theta)
    return z, [reset(v, z, theta), b * w + (1 - b) * z]


EQUATIONS = {"lif": lif, "leaky-integrator": leaky_integrator, "cuba-lif": cuba_lif, "adaptive-lif": adaptive_lif}


WITH_EQUATION = {name: NEURONS[name] for name in EQUATIONS}
FIRING = {name: cls for name, cls in WITH_EQUATION.items() if cls.spiking}
every_equation = pytest.mark.parametrize("cls", WITH_EQUATION.values(), ids=WITH_EQUATION)
every_firing = pytest.mark.parametrize("cls", FIRING.values(), ids=FIRING)


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_is_compared_with_its_equation_by_hand(name):
    own = OWN_TESTS / f"test_{name.replace('-', '_')}.py"
    assert name in EQUATIONS or own.is_file(), f"write its equation, from its source, into EQUATIONS or {own.name}"


def by_hand(
    name,
    x,
    states,
    p,
    *,
    surrogate,
    reset_mode="zero",
    detach_reset=False,
    discretisation="euler",
    dt=1.0,
    temporal_grad="full",
):
    """The outputs and last states by the equation; a spike is a step forwards and the surrogate's primitive backwards."""

    def decay(tau):
        return 1 - dt / tau if discretisation == "euler" else torch.exp(-dt / tau)

    def fire(v, threshold):
        soft = surrogate.primitive(v - threshold)
        return (v >= threshold).to(v) + (soft - soft.detach())

    def reset(v, z, threshold):
        z = z.detach() if detach_reset else z
        return v * (1 - z) if reset_mode == "zero" else v - threshold * z

    outputs = []
    for x_t in x:
        if temporal_grad == "none":
            states = [s.detach() for s in states]
        y, states = EQUATIONS[name](x_t, states, p, decay, fire, reset)
        outputs.append(y)
    return torch.stack(outputs), states


def parameters(cls, dt=1.0, features=(3,)):
    """Learnable values inside the bounds, different for each feature and low enough to make it fire."""
    generator = torch.Generator().manual_seed(1)
    made = {}
    for name, declared in cls.declared.items():
        scale = dt if declared.unit == "dt" else 1.0
        low = declared.low if declared.unit == "dt" else 0.3
        made[name] = nn.Parameter(scale * (low + 0.1 + 2 * torch.rand(features, generator=generator, dtype=F64)))
    return made


def drive(steps=12, features=(3,)):
    return 1 + 3 * torch.randn(steps, 2, *features, generator=torch.Generator().manual_seed(2), dtype=F64)


def start(cls, x):
    return {
        k: 0.3 * torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(3), dtype=F64) for k in cls.states
    }


def everything(y, states, leaves):
    """Outputs, last states, and the gradients of one number that all of them enter."""
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=F64)
    loss = (weights * y).sum() + sum(s.sin().sum() for s in states)
    return [y, *states, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]


def compared(cls, **options):
    """Everything by the class and by hand, for the same leaves."""
    name = next(n for n, c in WITH_EQUATION.items() if c is cls)
    x, p = drive().requires_grad_(), parameters(cls, options.get("dt", 1.0))
    state = {k: v.requires_grad_() for k, v in start(cls, x).items()}
    leaves = [x, *state.values(), *p.values()]
    y, after = ranvier.run(cls(**p, **options), x, state)
    actual = everything(y, after.values(), leaves)
    surrogate = options.pop("surrogate", ranvier.Arctan())
    expected = everything(*by_hand(name, x, list(state.values()), p, surrogate=surrogate, **options), leaves)
    if cls.spiking:
        assert torch.equal(actual[0], expected[0]) and 0.05 < y.mean() < 0.95
    if options.get("temporal_grad") != "none":
        assert all(g.any() for g in actual[1:])
    return actual, expected


def same(actual, expected):
    return all(torch.allclose(a, e, rtol=1e-9, atol=1e-11) for a, e in zip(actual, expected, strict=True))


@every_equation
@pytest.mark.parametrize("dt", [1.0, 1e-3])
@pytest.mark.parametrize("discretisation", ["euler", "exact"])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_outputs_states_and_all_gradients_are_those_of_the_equation(
    cls, reset_mode, detach_reset, discretisation, dt, reference
):
    assert same(*compared(cls, reset_mode=reset_mode, detach_reset=detach_reset, discretisation=discretisation, dt=dt))


@every_equation
@pytest.mark.parametrize(
    ("reset_mode", "detach_reset", "discretisation", "dt"),
    [
        ("zero", False, "euler", 1.0),
        ("zero", True, "exact", 1e-3),
        ("subtract", False, "exact", 1.0),
        ("subtract", True, "euler", 1e-3),
    ],
)
def test_generated_kernels_compute_the_equation_too(cls, reset_mode, detach_reset, discretisation, dt):
    assert same(*compared(cls, reset_mode=reset_mode, detach_reset=detach_reset, discretisation=discretisation, dt=dt))


@every_equation
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_without_a_temporal_gradient_every_step_is_learnt_from_alone(cls, backend):
    with ranvier.backend(backend):
        actual, expected = compared(cls, temporal_grad="none")
        whole, _ = compared(cls)
    outputs = 1 + len(cls.states)
    assert same(actual, expected) and same(actual[:outputs], whole[:outputs]) and not same(actual, whole)
    for gradient in actual[outputs + 1 : outputs + 1 + len(cls.states)]:
        assert not gradient.any()  # of the initial states


@every_firing
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.__name__)
def test_the_backward_pass_uses_the_surrogate_it_was_given(cls, surrogate, reference):
    assert same(*compared(cls, surrogate=surrogate(width=1.7, scale=0.6)))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.__name__)
def test_the_backward_pass_of_generated_kernels_uses_the_surrogate_too(surrogate):
    assert same(*compared(ranvier.LIF, surrogate=surrogate(width=1.7, scale=0.6)))


@every_firing
def test_the_options_make_a_difference(cls, reference):
    outcomes = [
        compared(cls, **o)[0]
        for o in ({}, {"reset_mode": "subtract"}, {"detach_reset": True}, {"discretisation": "exact"})
    ]
    for i, a in enumerate(outcomes):
        assert not any(same(a, b) for b in outcomes[:i])


@pytest.mark.parametrize(
    ("reset_mode", "detach_reset", "kept"),
    [  # d(membrane after the reset) / d(membrane before it), with v = 1.5, threshold = 1, slope s at 0.5
        ("zero", False, lambda s: 1 - 1.0 - 1.5 * s),
        ("zero", True, lambda s: 1 - 1.0),
        ("subtract", False, lambda s: 1 - 1.0 * s),
        ("subtract", True, lambda s: 1.0),
    ],
)
def test_the_gradient_through_a_reset_is_the_one_computed_by_hand(reset_mode, detach_reset, kept):
    x = torch.tensor([3.0, 0.5], dtype=F64).reshape(2, 1, 1).requires_grad_()
    layer = ranvier.LIF(tau=2.0, reset_mode=reset_mode, detach_reset=detach_reset)
    z = layer(x)
    assert z.flatten().tolist() == [1.0, 0.0]
    (gradient,) = torch.autograd.grad(z[1].sum(), x)
    v_after = 0.0 if reset_mode == "zero" else 0.5
    slope = ranvier.Arctan().derivative(torch.tensor([0.5, (v_after + 0.5) / 2 - 1], dtype=F64))
    expected = [slope[1] * 0.5 * kept(slope[0]) * 0.5, slope[1] * 0.5]
    assert torch.allclose(gradient.flatten(), torch.stack(expected), rtol=1e-12)


@every_firing
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_membrane_exactly_at_the_threshold_fires_and_the_next_number_below_does_not(cls, dtype):
    """With tau = 2 the membrane is half the input, exactly."""
    x = torch.tensor([2.0, 2.0], dtype=dtype)
    x[1] = torch.nextafter(x[1], torch.zeros(1, dtype=dtype))
    assert cls(tau=2.0, threshold=1.0)(x.reshape(1, 1, 2)).flatten().tolist() == [1.0, 0.0]


@every_firing
def test_a_reset_to_zero_forgets_and_a_reset_by_subtraction_keeps_what_exceeds(cls):
    x = torch.full((1, 1, 1), 3.0)
    for mode, left in (("zero", 0.0), ("subtract", 0.5)):
        z, state = ranvier.run(cls(tau=2.0, threshold=1.0, reset_mode=mode), x)
        assert z.item() == 1.0 and state["v"].item() == left
