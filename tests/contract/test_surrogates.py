"""What every surrogate keeps to: one smooth step from 0 to 1, whose slope is what the backward pass uses."""

import inspect
import math
import re

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn import surrogates

SURROGATES = [
    s
    for s in vars(surrogates).values()
    if isinstance(s, type) and issubclass(s, ranvier.Surrogate) and s is not ranvier.Surrogate
]
WIDTHS = [0.05, 0.5, 1.0, 3.0]
SMOOTH = [ranvier.Arctan, ranvier.Sigmoid, ranvier.FastSigmoid, ranvier.Gaussian]

every = pytest.mark.parametrize("cls", SURROGATES, ids=lambda s: s.__name__)
widths = pytest.mark.parametrize("width", WIDTHS)


def grid(width, n=801):
    """Points around the threshold, none of them on a corner."""
    return width * torch.linspace(-4.0013, 4.0027, n, dtype=torch.float64)


def test_all_six_are_here_and_exported():
    assert {s.__name__ for s in SURROGATES} == {"Arctan", "Sigmoid", "FastSigmoid", "Triangle", "Rectangle", "Gaussian"}
    assert all(getattr(ranvier, s.__name__) is s for s in SURROGATES)


@every
@widths
def test_the_derivative_is_that_of_the_primitive(cls, width):
    surrogate, u = cls(width=width, scale=0.7), grid(width).requires_grad_()
    (slope,) = torch.autograd.grad(surrogate.primitive(u).sum(), u)
    assert torch.allclose(surrogate.derivative(u), slope, rtol=1e-10, atol=1e-12)


@every
@widths
def test_the_primitive_rises_from_0_to_1_through_a_half(cls, width):
    y = cls(width=width).primitive(torch.tensor([-1e9, *grid(width), 1e9], dtype=torch.float64))
    assert (y.diff() >= 0).all()
    assert y[0] == pytest.approx(0, abs=1e-6) and y[-1] == pytest.approx(1, abs=1e-6)
    assert cls(width=width).primitive(torch.zeros(1)) == 0.5


@every
@widths
def test_the_slope_has_unit_area_and_is_symmetric(cls, width):
    """Trapezium rule over all reals, by u = width sinh(s), which reaches the tail of the arctangent."""
    points = 2_000_001 if cls is ranvier.Rectangle else 20_001  # a jump asks for many
    s = torch.linspace(-20.0, 20.0, points, dtype=torch.float64)
    slope = cls(width=width).derivative(width * s.sinh())
    assert torch.trapezoid(slope * width * s.cosh(), s) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(slope, slope.flip(0), rtol=1e-6) and (slope >= 0).all()


@every
@widths
def test_the_width_is_the_full_width_at_half_maximum(cls, width):
    surrogate = cls(width=width)
    peak, edge = (
        surrogate.derivative(torch.zeros(1, dtype=torch.float64)),
        width / 2 * (1 + torch.tensor([-1e-9, 1e-9]).double()),
    )
    inside, outside = surrogate.derivative(edge)
    if cls is ranvier.Rectangle:  # from the whole height to nothing
        assert inside == peak and outside == 0
    else:
        assert inside / peak == pytest.approx(0.5, abs=1e-6) and outside / peak == pytest.approx(0.5, abs=1e-6)


@every
def test_scale_multiplies(cls):
    u = grid(1.0)
    assert torch.allclose(cls(scale=3.0).derivative(u), 3 * cls().derivative(u), rtol=1e-12)
    assert torch.allclose(cls(scale=3.0).primitive(u), 3 * cls().primitive(u), rtol=1e-12)


@every
@pytest.mark.parametrize(
    "bad", [{"width": 0.0}, {"width": -1.0}, {"width": math.inf}, {"width": math.nan}, {"scale": math.nan}]
)
def test_a_width_or_scale_that_is_none_is_refused(cls, bad):
    with pytest.raises(Refusal, match=rf"{cls.__name__}: expected width > 0 and a finite scale; got .*\. The width"):
        cls(**bad)


@every
def test_it_is_a_value(cls):
    assert cls(width=2.0) == cls(width=2.0) != cls(width=1.0)
    assert len({cls(), cls(width=1.0), cls(scale=2.0)}) == 2
    assert all(cls() != other() for other in SURROGATES if other is not cls)
    with pytest.raises(AttributeError):
        cls().width = 2.0


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_spike_is_1_from_the_threshold_on_and_goes_back_by_the_derivative(cls, dtype):
    u = torch.tensor([-1.0, -1e-30, -0.0, 0.0, 1e-30, 0.3], dtype=dtype, requires_grad=True)
    z = ranvier.spike(u, cls(width=0.8))
    assert z.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0] and z.dtype == dtype
    incoming = torch.arange(1.0, 7.0).to(dtype)
    z.backward(incoming)
    assert torch.equal(u.grad, incoming * cls(width=0.8).derivative(u.detach()))


@pytest.mark.parametrize("cls", SMOOTH, ids=lambda s: s.__name__)
def test_the_slope_of_a_spike_can_itself_be_differentiated(cls):
    u = grid(1.0, 21).requires_grad_()
    (slope,) = torch.autograd.grad(ranvier.spike(u, cls()).sum(), u, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), u)
    step = 1e-6
    finite = (cls().derivative(u.detach() + step) - cls().derivative(u.detach() - step)) / (2 * step)
    assert torch.allclose(second, finite, atol=1e-7)


@pytest.mark.parametrize(
    ("surrogate", "published"),
    [
        (
            ranvier.Arctan(width=4 / (2.0 * math.pi)),
            lambda u: (2.0 / 2) / (1 + (math.pi / 2 * 2.0 * u) ** 2),
        ),  # alpha 2
        (
            ranvier.FastSigmoid(width=2 * (2**0.5 - 1) / 10, scale=2 / 10),
            lambda u: 1 / (1 + 10 * u.abs()) ** 2,
        ),  # beta 10
        (ranvier.Triangle(width=1.0), lambda u: (1 - u.abs()).clamp_min(0)),
        (ranvier.Rectangle(width=1.0), lambda u: (u.abs() < 0.5).double()),
        (
            ranvier.Sigmoid(width=2 * math.log(3 + 8**0.5) / 4.0),
            lambda u: 4.0 * torch.sigmoid(4.0 * u) * (1 - torch.sigmoid(4.0 * u)),
        ),  # alpha 4
        (
            ranvier.Gaussian(width=0.5 * 2 * (2 * math.log(2)) ** 0.5),
            lambda u: torch.exp(torch.distributions.Normal(0.0, 0.5).log_prob(u)),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ranvier.Surrogate) else "",
)
def test_published_slopes_are_reached_as_the_docstrings_say(surrogate, published):
    u = grid(1.0)
    assert torch.allclose(surrogate.derivative(u), published(u), rtol=1e-6, atol=1e-9)


@every
def test_the_docstring_has_the_step_or_slope_its_source_and_an_example(cls):
    text = inspect.getdoc(cls)
    assert re.match(r"[A-Z][\w ()]+: (step|slope) = .+\d{4}.*\)\.$", text.split("\n")[0])
    assert ">>> " in text
