"""What every neuron keeps to. A neuron of a new file is tested as soon as its equation stands in EQUATIONS."""

import inspect
import math
import re

import pytest
import torch
from torch import nn
from torch.func import functional_call

import ranvier
from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover
from ranvier.nn.neurons import neuron as base

NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
SPIKING = {name: cls for name, cls in NEURONS.items() if cls.spiking}
SURROGATES = [
    s
    for s in vars(ranvier).values()
    if isinstance(s, type) and issubclass(s, ranvier.Surrogate) and s is not ranvier.Surrogate
]
F64 = torch.float64

every = pytest.mark.parametrize("cls", NEURONS.values(), ids=NEURONS)
every_spiking = pytest.mark.parametrize("cls", SPIKING.values(), ids=SPIKING)


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


def test_the_equation_of_every_neuron_is_here():
    assert EQUATIONS.keys() == NEURONS.keys(), "write the new neuron's equation, from its source, into EQUATIONS"


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
    name = next(n for n, c in NEURONS.items() if c is cls)
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


@every
@pytest.mark.parametrize("dt", [1.0, 1e-3])
@pytest.mark.parametrize("discretisation", ["euler", "exact"])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_outputs_states_and_all_gradients_are_those_of_the_equation(
    cls, reset_mode, detach_reset, discretisation, dt, reference
):
    assert same(*compared(cls, reset_mode=reset_mode, detach_reset=detach_reset, discretisation=discretisation, dt=dt))


@every
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


@every
@pytest.mark.parametrize("backend", ["reference", "fused"])
def test_without_a_temporal_gradient_every_step_is_learnt_from_alone(cls, backend):
    with ranvier.backend(backend):
        actual, expected = compared(cls, temporal_grad="none")
        whole, _ = compared(cls)
    outputs = 1 + len(cls.states)
    assert same(actual, expected) and same(actual[:outputs], whole[:outputs]) and not same(actual, whole)
    for gradient in actual[outputs + 1 : outputs + 1 + len(cls.states)]:
        assert not gradient.any()  # of the initial states


@every_spiking
@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.__name__)
def test_the_backward_pass_uses_the_surrogate_it_was_given(cls, surrogate, reference):
    assert same(*compared(cls, surrogate=surrogate(width=1.7, scale=0.6)))


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.__name__)
def test_the_backward_pass_of_generated_kernels_uses_the_surrogate_too(surrogate):
    assert same(*compared(ranvier.LIF, surrogate=surrogate(width=1.7, scale=0.6)))


@every_spiking
def test_the_options_make_a_difference(cls, reference):
    outcomes = [
        compared(cls, **o)[0]
        for o in ({}, {"reset_mode": "subtract"}, {"detach_reset": True}, {"discretisation": "exact"})
    ]
    for i, a in enumerate(outcomes):
        assert not any(same(a, b) for b in outcomes[:i])


@every
@pytest.mark.parametrize("discretisation", ["euler", "exact"])
@pytest.mark.parametrize("reset_mode", ["zero", "subtract"])
def test_gradients_agree_with_finite_differences_when_the_spike_is_smooth(
    cls, reset_mode, discretisation, monkeypatch, reference
):
    monkeypatch.setattr(base, "spike", lambda u, surrogate: surrogate.primitive(u))
    p, x = parameters(cls), drive(steps=5).requires_grad_()
    state = [v.requires_grad_() for v in start(cls, x).values()]

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = cls(**p, reset_mode=reset_mode, discretisation=discretisation)

        def forward(self, x, *state):
            y, after = ranvier.run(self.neuron, x, dict(zip(cls.states, state, strict=True)))
            return y, *after.values()

    whole = Whole()

    def function(x, *values):
        state, given = values[: len(cls.states)], values[len(cls.states) :]
        return functional_call(whole, dict(zip((f"neuron.{k}" for k in p), given, strict=True)), (x, *state))

    assert torch.autograd.gradcheck(function, (x, *state, *(v.detach().requires_grad_() for v in p.values())))


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


@every_spiking
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_membrane_exactly_at_the_threshold_fires_and_the_next_number_below_does_not(cls, dtype):
    """With tau = 2 the membrane is half the input, exactly."""
    x = torch.tensor([2.0, 2.0], dtype=dtype)
    x[1] = torch.nextafter(x[1], torch.zeros(1, dtype=dtype))
    assert cls(tau=2.0, threshold=1.0)(x.reshape(1, 1, 2)).flatten().tolist() == [1.0, 0.0]


@every_spiking
def test_a_reset_to_zero_forgets_and_a_reset_by_subtraction_keeps_what_exceeds(cls):
    x = torch.full((1, 1, 1), 3.0)
    for mode, left in (("zero", 0.0), ("subtract", 0.5)):
        z, state = ranvier.run(cls(tau=2.0, threshold=1.0, reset_mode=mode), x)
        assert z.item() == 1.0 and state["v"].item() == left


@every
def test_a_time_step_in_seconds_equals_steps(cls):
    """dt = 1e-3 and time constants in seconds give what dt = 1 and time constants in steps give."""
    for discretisation in ("euler", "exact"):
        steps = parameters(cls)
        seconds = {k: nn.Parameter(v * (1e-3 if cls.declared[k].unit == "dt" else 1)) for k, v in steps.items()}
        x = drive()
        y, state = ranvier.run(cls(**steps, discretisation=discretisation), x)
        z, other = ranvier.run(cls(**seconds, discretisation=discretisation, dt=1e-3), x)
        assert torch.allclose(y, z, rtol=1e-10) and all(torch.allclose(state[k], other[k], rtol=1e-9) for k in state)


@every
def test_defaults_scale_with_dt(cls):
    slow, fast = cls(), cls(dt=1e-3)
    for name, declared in cls.declared.items():
        scale = 1e-3 if declared.unit == "dt" else 1.0
        assert getattr(fast, name).item() == pytest.approx(scale * getattr(slow, name).item())


@every
def test_one_parameter_per_feature_equals_a_neuron_for_each(cls):
    p, x = parameters(cls), drive()
    together = cls(**p)(x)
    for i in range(3):
        assert torch.equal(together[..., i : i + 1], cls(**{k: v.detach()[i] for k, v in p.items()})(x[..., i : i + 1]))


@every
def test_one_parameter_per_channel_equals_a_neuron_for_each(cls):
    p, x = parameters(cls, features=(4, 1, 1)), drive(features=(4, 2, 3))
    together = cls(**p)(x)
    for i in range(4):
        assert torch.equal(
            together[:, :, i : i + 1], cls(**{k: v.detach()[i] for k, v in p.items()})(x[:, :, i : i + 1])
        )


@every
def test_only_what_is_given_as_a_parameter_is_learnt(cls):
    p = parameters(cls)
    for chosen in p:
        layer = cls(**{k: v if k == chosen else v.detach() for k, v in p.items()})
        assert dict(layer.named_parameters()).keys() == {chosen}
        assert set(layer.state_dict()) == set(cls.declared)
        assert not any(b.requires_grad for b in layer.buffers())
        assert layer(drive()).requires_grad
    plain = cls(**{k: v.detach() for k, v in p.items()})
    assert not list(plain.parameters()) and not plain(drive()).requires_grad
    x = drive().requires_grad_()
    _, state = ranvier.run(plain, x)
    assert all(s.requires_grad for k, s in state.items())


@every
def test_fixed_tensors_are_copied_and_learnt_ones_are_shared(cls):
    fixed, learnt = torch.tensor(3.0), nn.Parameter(torch.tensor(3.0))
    a, b = cls(tau=fixed), cls(tau=learnt)
    fixed.fill_(4.0)
    assert a.tau == 3.0 and b.tau is learnt


@every
def test_a_learnt_value_out_of_bounds_counts_as_the_bound_and_can_come_back(cls):
    for name, declared in cls.declared.items():
        if declared.low == -math.inf:
            continue
        layer, x = cls(**{name: nn.Parameter(torch.tensor(declared.low + 1.0, dtype=F64))}), drive()
        value = getattr(layer, name)
        value.data.fill_(declared.low)
        at_bound = layer(x)
        value.data.fill_(declared.low - 0.5)
        assert torch.equal(layer(x), at_bound)
        (gradient,) = torch.autograd.grad(layer(x).sum(), value)
        (other,) = torch.autograd.grad(-layer(x).sum(), value)
        assert min(gradient, other) < 0 == max(gradient, other)  # of two directions, the one back inside passes


@every
@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), (1, 1, 3), (1, 3, 1)])
def test_a_parameter_that_fits_no_feature_is_refused_with_what_fits(cls, shape):
    name = next(iter(cls.declared))
    layer = cls(**{name: torch.full(shape, cls.declared[name].default)})
    with pytest.raises(
        Refusal, match=rf"{cls.__name__}\.{name}: expected .*features \(3,\).*; got \({shape[0]},.*Give one"
    ):
        layer(torch.zeros(4, 2, 3))


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf, -1000.0])
def test_a_value_that_is_out_of_bounds_is_refused_by_name(cls, bad):
    for name in cls.declared:
        for value in (bad, torch.tensor([1e3, bad]), nn.Parameter(torch.tensor(bad))):
            with pytest.raises(Refusal, match=rf"{cls.__name__}\.{name}: expected finite values in .*; got {bad:g}"):
                cls(**{name: value})


@every
def test_the_bounds_themselves_are_accepted_at_every_dt(cls):
    for dt in (1.0, 1e-3, 0.1, 7e-5):
        for name, declared in cls.declared.items():
            for bound in declared.scaled(dt)[1:]:
                if math.isfinite(bound):
                    assert cls(**{name: bound}, dt=dt)(torch.zeros(2, 1, 1)).isfinite().all()


@every
def test_what_is_no_number_is_refused(cls):
    with pytest.raises(
        Refusal, match=rf"{cls.__name__}\.tau: expected a number, a tensor .*; got \[2\.0, 3\.0\]\..*torch\.tensor"
    ):
        cls(tau=[2.0, 3.0])


@every
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tua": 2.0}, r"expected a parameter that it declares; got 'tua'\. Did you mean 'tau'"),
        ({"detach": True}, r"got 'detach'\. Did you mean 'detach_reset'"),
        (
            {"reset_mode": "subtrac"},
            r"reset_mode: expected 'zero' or 'subtract'; got 'subtrac'\. Did you mean 'subtract'",
        ),
        (
            {"discretisation": "exakt"},
            r"discretisation: expected 'euler' or 'exact'; got 'exakt'\. Did you mean 'exact'",
        ),
        ({"temporal_grad": "ful"}, r"temporal_grad: expected 'full' or 'none'; got 'ful'\. Did you mean 'full'"),
        ({"dt": 0.0}, r"dt: expected a positive number; got 0\.0"),
        ({"dt": math.inf}, r"dt: expected a positive number; got inf"),
    ],
)
def test_unknown_names_and_options_are_refused_with_the_nearest(cls, options, text):
    with pytest.raises(Refusal, match=rf"{cls.__name__}.*{text}"):
        cls(**options)


@every
@pytest.mark.parametrize(
    ("x", "text"),
    [
        (torch.zeros(3), r"expected \[T, B, \.\.\.features\], time first; got shape \(3,\)\. Add the missing axis"),
        (
            torch.zeros(4, 3),
            r"expected \[T, B, \.\.\.features\], time first; got shape \(4, 3\)\. Add the missing axis",
        ),
        (torch.zeros(4, 2, 3, dtype=torch.int64), r"expected floating-point input; got torch\.int64\. Convert it"),
        (torch.zeros(4, 2, 3, dtype=torch.bool), r"expected floating-point input; got torch\.bool\. Convert it"),
    ],
)
def test_input_of_a_wrong_shape_or_kind_is_refused_with_what_to_do(cls, x, text):
    for call in (cls(), lambda x: ranvier.run(cls(), x)):
        with pytest.raises(Refusal, match=rf"{cls.__name__}: {text}"):
            call(x)


@every
def test_input_need_not_be_contiguous(cls):
    x = drive(features=(4, 3))
    for view in (x.transpose(0, 1), x.transpose(2, 3), x[::2], x[..., ::2], x[:1].expand(5, -1, -1, -1)):
        assert not view.is_contiguous()
        expected, actual = ranvier.run(cls(), view.contiguous()), ranvier.run(cls(), view)
        assert torch.equal(expected[0], actual[0]) and all(torch.equal(expected[1][k], v) for k, v in actual[1].items())


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, F64])
def test_the_output_has_the_dtype_of_the_input_and_the_state_is_wider(cls, dtype):
    x = drive().to(dtype).requires_grad_()
    y, state = ranvier.run(cls(), x)
    assert y.dtype == dtype and {s.dtype for s in state.values()} == {F64 if dtype == F64 else torch.float32}
    y.sum().backward()
    assert x.grad.dtype == dtype and x.grad.any()


@every
def test_a_state_starts_at_its_declared_rest(cls):
    _, state = ranvier.run(cls(), torch.zeros(0, 2, 3))
    assert list(state) == list(cls.states)
    assert all((state[k] == s.rest).all() and state[k].shape == (2, 3) for k, s in cls.states.items())


@every
def test_it_can_be_recorded(cls):
    assert set(cls.records) == {*cls.states, *(("spikes",) if cls.spiking else ())}
    _, _, recorded = ranvier.run(cls(), drive(), record=cls.records)
    assert set(recorded) == set(cls.records)


@every
def test_weights_survive_saving_and_the_text_shows_them(cls, tmp_path):
    layer, other = (
        cls(**parameters(cls)),
        cls(**{k: torch.full((3,), d.default) for k, d in cls.declared.items()}).double(),
    )
    ranvier.save(layer.state_dict(), tmp_path / "a")
    other.load_state_dict(ranvier.load(tmp_path / "a"))
    assert torch.equal(other(drive()), layer(drive()))
    assert all(name in repr(layer) for name in cls.declared) and "learnt" in repr(layer) and "learnt" not in repr(cls())


@every
def test_the_signature_names_every_parameter_with_its_default(cls):
    signature = inspect.signature(cls)
    for name, declared in cls.declared.items():
        assert signature.parameters[name].default == declared.default
    common = {"surrogate", "reset_mode", "detach_reset", "discretisation", "dt", "temporal_grad"}
    assert set(signature.parameters) == common | set(cls.declared)
    with pytest.raises(TypeError):
        cls(2.0)  # which parameter would it be?


@every
def test_the_docstring_has_every_part(cls):
    text = inspect.getdoc(cls)
    first, blank, *rest = text.split("\n")
    assert first.endswith(".") and blank == "", "one line that says what it is"
    body = "\n".join(rest)
    assert re.search(r"\w\[t\] = .*\w", body), "the equation"
    for part in (r"^Input: .*\[T, B, \.\.\.features\]", r"Output: \w", r"^Raises: \w", r"^Source: .*\d{4}", r"^>>> "):
        assert re.search(part, body, re.MULTILINE), part
    assert all(d.doc for d in (*cls.declared.values(), *cls.states.values())), "a word on every parameter and state"
