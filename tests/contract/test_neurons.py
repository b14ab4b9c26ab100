"""What every neuron keeps to, whatever its equation: a neuron of a new file is tested as soon as it is there."""

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
DETERMINISTIC = {name: cls for name, cls in NEURONS.items() if not cls.random}
STRENGTH = {
    "Izhikevich": 20.0,
    "ResonateAndFire": 40.0,
    "EICurrentLIF": 20.0,
    "EIConductanceLIF": 20.0,
}
"""What makes it fire, where that is far from 1."""
F64 = torch.float64

every = pytest.mark.parametrize("cls", NEURONS.values(), ids=NEURONS)
every_and_lif_fused = pytest.mark.parametrize(
    ("cls", "backend"), [*((cls, "reference") for cls in NEURONS.values()), (ranvier.LIF, "fused")]
)  # test_fused.py holds the kernels of all neurons to the reference
every_deterministic = pytest.mark.parametrize("cls", DETERMINISTIC.values(), ids=DETERMINISTIC)


def parameters(cls, dt=1.0, features=(3,)):
    """Learnable values near the defaults, different for each feature."""
    generator = torch.Generator().manual_seed(1)
    made = {}
    for name, declared in cls.declared.items():
        default, low, high = declared.scaled(dt)
        away = (abs(default) or 1.0) * (0.02 + 0.1 * torch.rand(features, generator=generator, dtype=F64))
        made[name] = nn.Parameter(default - away if default == high else default + away)
        assert (made[name] > low).all() and (made[name] < high).all()
    return made


def fixed(p):
    return {k: v.detach() for k, v in p.items()}


def drive(cls, steps=12, batch=2, features=(3,)):
    x = 1 + 2 * torch.randn(steps, batch, *features, generator=torch.Generator().manual_seed(2), dtype=F64)
    return STRENGTH.get(cls.__name__, 1.0) * x


def run(layer, x, *args, **options):
    """A run whose random numbers are the same every time."""
    torch.manual_seed(0)
    return ranvier.run(layer, x, *args, **options)


def floats(state):
    """The state without seeds and step."""
    return {k: v for k, v in state.items() if v.is_floating_point()}


def close(a, b):
    return all(torch.allclose(u, v, rtol=1e-9, atol=1e-11) for u, v in zip(a, b, strict=True))


@every
@pytest.mark.parametrize(("reset_mode", "discretisation"), [("zero", "exact"), ("subtract", "euler")])
def test_gradients_agree_with_finite_differences_when_the_spike_is_smooth(
    cls, reset_mode, discretisation, monkeypatch, reference
):
    """Every step function by what its gradient is of: the surrogate's primitive, the number itself, the probability."""
    monkeypatch.setattr(base, "spike", lambda u, surrogate: surrogate.primitive(u))
    monkeypatch.setattr(base, "straight_through", lambda operation, u: u)
    monkeypatch.setattr(cls._bound, "bernoulli", lambda self, p: p)
    p, x = parameters(cls, features=(2,)), drive(cls, steps=3, batch=1, features=(2,)).requires_grad_()
    rest = run(cls(), x[:0])[1]
    state = {k: (v + 0.1).detach().requires_grad_() if v.is_floating_point() else v for k, v in rest.items()}

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            width = STRENGTH.get(cls.__name__, 1.0)
            self.neuron = cls(
                **p, reset_mode=reset_mode, discretisation=discretisation, surrogate=ranvier.Arctan(width=width)
            )

        def forward(self, x, *values):
            y, after = ranvier.run(self.neuron, x, state | dict(zip(cls.states, values, strict=True)))
            return y, *floats(after).values()

    whole = Whole()

    def function(x, *values):
        state, given = values[: len(cls.states)], values[len(cls.states) :]
        return functional_call(whole, dict(zip((f"neuron.{k}" for k in p), given, strict=True)), (x, *state))

    leaves = [v.detach().clone().requires_grad_() for v in p.values()]
    assert torch.autograd.gradcheck(function, (x, *floats(state).values(), *leaves))


@pytest.mark.parametrize(
    "cls", [pytest.param(c, id=n) for n, c in NEURONS.items() if any(d.unit == "dt" for d in c.declared.values())]
)
def test_a_time_step_in_seconds_equals_steps(cls, reference):
    """dt = 1e-3 and time constants in seconds give what dt = 1 and time constants in steps give."""
    for discretisation in ("euler", "exact"):
        steps = parameters(cls)
        seconds = {k: nn.Parameter(v * (1e-3 if cls.declared[k].unit == "dt" else 1)) for k, v in steps.items()}
        y, state = run(cls(**steps, discretisation=discretisation), drive(cls))
        z, other = run(cls(**seconds, discretisation=discretisation, dt=1e-3), drive(cls))
        assert close([y, *state.values()], [z, *other.values()])


@every
def test_defaults_scale_with_dt(cls):
    slow, fast = cls(), cls(dt=1e-3)
    for name, declared in cls.declared.items():
        scale = 1e-3 if declared.unit == "dt" else 1.0
        assert getattr(fast, name).item() == pytest.approx(scale * getattr(slow, name).item())


@every_deterministic
@pytest.mark.parametrize(("own", "features"), [((3,), (3,)), ((3, 1, 1), (3, 2, 3))], ids=["feature", "channel"])
def test_one_parameter_per_feature_or_channel_equals_a_neuron_for_each(cls, own, features, reference):
    p, x = parameters(cls, features=own), drive(cls, features=features)
    together = cls(**p)(x)
    for i in range(3):
        alone = cls(**{k: v.detach()[i] for k, v in p.items()})(x[:, :, i : i + 1])
        assert close([together[:, :, i : i + 1]], [alone])


@every
def test_only_what_is_given_as_a_parameter_is_learnt(cls, reference):
    p, x = parameters(cls), drive(cls)
    for chosen in p:
        layer = cls(**fixed(p) | {chosen: p[chosen]})
        assert dict(layer.named_parameters()).keys() == {chosen}
        assert set(layer.state_dict()) == set(cls.declared)
        assert not any(b.requires_grad for b in layer.buffers())
    plain = cls(**fixed(p))
    assert not list(plain.parameters()) and not plain(x).requires_grad
    y, state = run(plain, x.requires_grad_())
    assert y.requires_grad and all(v.requires_grad for v in floats(state).values())


@every
def test_fixed_tensors_are_copied_and_learnt_ones_are_shared(cls):
    for name, p in parameters(cls).items():
        given = p.detach().clone()
        copied, shared = cls(**{name: given}), cls(**{name: p})
        given.zero_()
        assert torch.equal(getattr(copied, name), p) and getattr(shared, name) is p


@every_and_lif_fused
def test_a_learnt_value_out_of_bounds_counts_as_the_bound_and_can_only_come_back(cls, backend):
    name = next(k for k, d in cls.declared.items() if d.low > -math.inf)
    value = nn.Parameter(parameters(cls)[name].detach()[0])
    layer, x = cls(**{name: value}), drive(cls)
    with ranvier.backend(backend):
        value.data.fill_(cls.declared[name].low)
        at_bound = run(layer, x)[0]
        value.data.sub_(0.5)
        assert torch.equal(run(layer, x)[0], at_bound)
        gradients = [torch.autograd.grad(sign * run(layer, x)[0].sum(), value)[0] for sign in (1, -1)]
    assert max(gradients) == 0 >= min(gradients)  # of two directions, the one further out is cut


@every
@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), (1, 1, 3), (1, 3, 1)])
def test_a_parameter_that_fits_no_feature_is_refused_with_what_fits(cls, shape):
    name = next(iter(cls.declared))
    layer = cls(**{name: torch.full(shape, cls.declared[name].default)})
    with pytest.raises(Refusal, match=rf"{cls.__name__}\.{name}: expected .*\(2, 3\).*; got \({shape[0]},.*Give one"):
        layer(torch.zeros(4, 2, 3))


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf, -1000.0])
def test_a_value_that_is_out_of_bounds_is_refused_by_name(cls, bad):
    for name in cls.declared:
        for value in (bad, torch.tensor([cls.declared[name].default, bad]), nn.Parameter(torch.tensor(bad))):
            with pytest.raises(Refusal, match=rf"{cls.__name__}\.{name}: expected finite values in .*; got {bad:g}"):
                cls(**{name: value})


@every
def test_the_bounds_themselves_are_accepted_at_every_dt(cls, reference):
    for dt in (1.0, 1e-3, 0.1, 7e-5):
        for name, declared in cls.declared.items():
            for bound in declared.scaled(dt)[1:]:
                if math.isfinite(bound):
                    assert cls(**{name: bound}, dt=dt)(torch.zeros(2, 1, 1)).isfinite().all()


@every
def test_what_is_no_number_is_refused(cls):
    name = next(iter(cls.declared))
    with pytest.raises(
        Refusal, match=rf"{cls.__name__}\.{name}: expected a number, a tensor .*; got \[2\.0, 3\.0\]\..*torch\.tensor"
    ):
        cls(**{name: [2.0, 3.0]})


@every
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threshol": 2.0}, r"expected a parameter that it declares; got 'threshol'\. .*There are: "),
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
def test_input_need_not_be_contiguous(cls, reference):
    x = drive(cls, features=(4, 3))
    for view in (x.transpose(0, 1), x.transpose(2, 3), x[::2], x[..., ::2], x[:1].expand(5, -1, -1, -1)):
        assert not view.is_contiguous()
        expected, actual = run(cls(), view.contiguous()), run(cls(), view)
        assert torch.equal(expected[0], actual[0]) and all(torch.equal(expected[1][k], v) for k, v in actual[1].items())


@every_and_lif_fused
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, F64])
def test_the_output_has_the_dtype_of_the_input_and_the_state_is_wider(cls, dtype, backend):
    x = drive(cls).to(dtype).requires_grad_()
    with ranvier.backend(backend):
        y, state = run(cls(), x)
    assert y.dtype == dtype and {s.dtype for s in floats(state).values()} == {F64 if dtype == F64 else torch.float32}
    y.sum().backward()
    assert x.grad.dtype == dtype and x.grad.any()


@every
def test_a_state_starts_at_its_declared_rest(cls, reference):
    _, state = run(cls(), torch.zeros(0, 2, 3))
    assert list(state) == [*cls.states, *(("seed", "step") if cls.random else ())]
    assert all((state[k] == s.rest).all() and state[k].shape == (2, 3) for k, s in cls.states.items())


@every
def test_it_can_be_recorded(cls, reference):
    assert set(cls.records) == {*cls.states, *(("spikes",) if cls.spiking else ())}
    _, _, recorded = run(cls(), drive(cls), record=cls.records)
    assert set(recorded) == set(cls.records)


@every
def test_weights_survive_saving_and_the_text_shows_them(cls, tmp_path, reference):
    p, x = parameters(cls), drive(cls)
    layer, other = cls(**p), cls(**{k: torch.full_like(v, cls.declared[k].default) for k, v in p.items()})
    ranvier.save(layer.state_dict(), tmp_path / "a")
    other.load_state_dict(ranvier.load(tmp_path / "a"))
    assert torch.equal(run(other, x)[0], run(layer, x)[0])
    assert all(name in repr(layer) for name in cls.declared) and f"learnt={list(p)}" in repr(layer)
    assert "learnt" not in repr(other)


@every
def test_the_signature_names_every_parameter_with_its_default(cls):
    signature = inspect.signature(cls)
    for name, declared in cls.declared.items():
        assert signature.parameters[name].default == declared.default
    common = {"surrogate", "reset_mode", "detach_reset", "discretisation", "dt", "temporal_grad"}
    assert set(signature.parameters) >= common | set(cls.declared)
    assert set(signature.parameters) >= {
        k for k, p in inspect.signature(cls.__init__).parameters.items() if p.kind is p.KEYWORD_ONLY
    }
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
