"""Norms alone: torch's batch norm over all steps, what tdBN, TEBN and the membrane's norm make of it, running statistics."""

import inspect
import re

import pytest
import torch
from torch import nn

import ranvier
from ranvier.nn.norms.batch_norm import BatchNorm
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.normalised import Normalised
from ranvier.nn.norms.polarised import Polarised
from ranvier.nn.norms.temporal_batch_norm import TemporalBatchNorm
from ranvier.nn.norms.threshold_batch_norm import ThresholdBatchNorm

CHANNELS = 4
SHAPES = [(6, 3, CHANNELS), (6, 3, CHANNELS, 5), (1, 2, CHANNELS, 5, 3), (6, 1, CHANNELS, 2, 2)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
ALL = [BatchNorm, ThresholdBatchNorm, TemporalBatchNorm, MembraneBatchNorm, Normalised, Polarised]


def torchs(shape, **options):
    kind = {3: nn.BatchNorm1d, 4: nn.BatchNorm1d, 5: nn.BatchNorm2d}[len(shape)]
    return ranvier.Fold(kind(CHANNELS, **options))


def moved(norm):
    for name, value in norm.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 2.0) if "var" in name or "weight" in name else value.normal_()
    return norm


@shapes
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("affine", [True, False])
def test_numbers_names_and_running_statistics_are_those_of_torchs_in_fold(shape, momentum, affine):
    theirs = moved(torchs(shape, momentum=momentum, affine=affine))
    ours = BatchNorm(CHANNELS, momentum=momentum, affine=affine)
    ours.load_state_dict(theirs.inner.state_dict())
    fused = Normalised(BatchNorm(CHANNELS, momentum=momentum, affine=affine), ranvier.LeakyIntegrator(tau=1.0))
    fused.norm.load_state_dict(theirs.inner.state_dict())
    for training in (True, True, False):
        x = 3 * torch.randn(shape) + 1
        y = theirs.train(training)(x)
        assert torch.equal(ours.train(training)(x), y)
        assert torch.allclose(fused.train(training)(x), y, rtol=1e-5, atol=1e-5)  # tau=1 hands its input on
    for key, value in theirs.inner.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
        assert torch.allclose(fused.norm.state_dict()[key], value, rtol=1e-5, atol=1e-6), key


@shapes
def test_float64_input_meets_float32_weights(shape):
    norm, double = moved(BatchNorm(CHANNELS)), moved(BatchNorm(CHANNELS)).double()
    double.load_state_dict(norm.state_dict())
    x = torch.randn(shape, dtype=torch.float64)
    assert norm(x).dtype == torch.float64 and torch.allclose(norm(x), double(x), atol=1e-6)
    assert BatchNorm(CHANNELS)(x.bfloat16()).dtype == torch.bfloat16


@shapes
def test_tdbn_is_a_batch_norm_alpha_times_threshold_as_wide(shape):
    x, wide = torch.randn(shape), ThresholdBatchNorm(CHANNELS, threshold=0.5, alpha=0.5**0.5)
    wide.bias.data.normal_()
    plain = torchs(shape, affine=False)(x)
    bias = wide.bias.reshape(-1, *[1] * (len(shape) - 3))
    assert torch.allclose(wide(x), 0.5 * 0.5**0.5 * plain + bias, rtol=1e-5, atol=1e-6)


@shapes
def test_tebn_is_a_batch_norm_times_a_scale_for_each_step(shape):
    x, norm = torch.randn(shape), TemporalBatchNorm(CHANNELS, steps=8)
    norm.scale.data.normal_()
    plain = torchs(shape)(x)
    y = norm(x)
    assert torch.allclose(y, plain * norm.scale[: len(x)].reshape(-1, *[1] * (len(shape) - 1)), rtol=1e-5, atol=1e-6)
    y.square().sum().backward()
    assert norm.scale.grad[: len(x)].all() and not norm.scale.grad[len(x) :].any()


def test_tebn_knows_the_step_at_which_a_chunk_begins():
    norm = nn.Sequential(moved(TemporalBatchNorm(CHANNELS, steps=6))).eval()
    x = torch.randn(6, 3, CHANNELS)
    whole, _ = ranvier.run(norm, x)
    first, state = ranvier.run(norm, x[:4])
    second, end = ranvier.run(norm, x[4:], state)
    assert torch.equal(torch.cat([first, second]), whole) and end["0.step"].tolist() == [6, 6, 6]
    for call in (lambda: ranvier.run(norm, x[:1], end), lambda: norm(torch.randn(7, 3, CHANNELS))):
        with pytest.raises(
            ranvier.Refusal, match="TemporalBatchNorm: expected at most 6 steps, each with its scale; got 7"
        ):
            call()


# the membrane's norm


@shapes
def test_a_membrane_norm_is_torchs_at_each_step(shape):
    if shape[1] * int(torch.Size(shape[3:]).numel()) < 2:
        return
    norm, theirs = MembraneBatchNorm(CHANNELS), torchs(shape)
    norm.load_state_dict(moved(theirs).inner.state_dict())
    x = torch.randn(shape).cumsum(0)
    for training in (True, False):
        y = norm.train(training)(x)
        assert torch.equal(y, torch.stack([theirs.train(training).inner(step) for step in x]))
        assert all(torch.equal(norm.state_dict()[k], v) for k, v in theirs.inner.state_dict().items())


def test_a_membrane_norm_of_each_element_has_statistics_over_the_batch_alone():
    norm = MembraneBatchNorm((CHANNELS, 3, 2))
    x = torch.randn(5, 7, CHANNELS, 3, 2)
    y = norm(x)
    assert torch.allclose(y.mean(1), torch.zeros(5, CHANNELS, 3, 2), atol=1e-6)
    assert torch.allclose(y.var(1, correction=0), torch.ones(()), atol=1e-3)
    assert norm.running_mean.shape == norm.weight.shape == (CHANNELS, 3, 2)
    with pytest.raises(ranvier.Refusal, match=r"MembraneBatchNorm: expected \[T, B, 4, 3, 2, \.\.\.\], time first"):
        norm(torch.randn(5, 7, CHANNELS, 2, 3))


def noted(layer, x):
    """The normalised membrane at every step of a layer in training, by its definition."""
    seen, own = [], layer.membrane.at_step
    layer.membrane.at_step = lambda m, real=None: seen.append(own(m, real)) or seen[-1]
    y = layer(x)
    del layer.membrane.at_step
    return y, torch.stack(seen)


@pytest.mark.parametrize("features", [(CHANNELS, 6, 6), CHANNELS], ids=["element", "channel"])
def test_in_training_mean_and_variance_of_the_membrane_are_bias_and_weight_squared_at_every_step(features):
    layer = Normalised(BatchNorm(CHANNELS), ranvier.IF(threshold=0.5), membrane=MembraneBatchNorm(features))
    layer.membrane.weight.data.uniform_(-2.0, 2.0)
    layer.membrane.bias.data.normal_()
    y, n = noted(layer, torch.randn(4, 64, CHANNELS, 6, 6))
    over = (1,) if isinstance(features, tuple) else (1, 3, 4)
    assert (n.mean(over) - layer.membrane.bias).abs().max() < 1e-3
    assert (n.var(over, correction=0) - layer.membrane.weight.square()).abs().max() < 1e-3
    assert torch.equal(y, (n >= 0.5).float())


def by_hand(x, weight, bias, eps=1e-5, d=0.25, threshold=0.5, surrogate=None):
    """The published step: m = d u + x, n = MPBN(m), s = n > Vf, u = m (1 - s)."""
    u, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        m = d * u + x_t
        n = nn.functional.batch_norm(m, None, None, weight, bias, True, 0.0, eps)
        s = ranvier.spike(n - threshold, surrogate)
        u = m * (1 - s)
        spikes.append(s)
    return torch.stack(spikes), u


def test_the_published_step_and_its_gradients():
    # LIF takes (1 - d) x
    surrogate = ranvier.Triangle(width=1.0)
    layer = Normalised(None, ranvier.LIF(tau=4 / 3, threshold=0.5, surrogate=surrogate), membrane=MembraneBatchNorm(CHANNELS)).double()  # fmt: skip
    layer.membrane.weight.data.uniform_(0.5, 2.0)
    layer.membrane.bias.data.normal_()
    x = torch.randn(4, 6, CHANNELS, 3, 3, dtype=torch.float64, requires_grad=True)
    y, state = ranvier.run(layer, x / 0.75)
    weight, bias = layer.membrane.weight, layer.membrane.bias
    want, u = by_hand(x, weight, bias, surrogate=surrogate)
    assert torch.equal(y, want) and torch.allclose(state["v"], u)
    g, h = torch.randn_like(y), torch.randn_like(u)
    for got, expected in zip(
        torch.autograd.grad((y * g).sum() + (state["v"] * h).sum(), [x, weight, bias]),
        torch.autograd.grad((want * g).sum() + (u * h).sum(), [x, weight, bias]),
        strict=True,
    ):
        assert torch.allclose(got, expected, rtol=1e-5, atol=1e-6)  # tau is a float32


def test_the_gradient_through_the_batch_is_that_of_finite_differences():
    class Smooth(ranvier.Neuron):
        """A membrane that is handed on, reset by the smooth primitive in place of a spike."""

        threshold = ranvier.Parameter(0.5)
        v = ranvier.State()

        def step(self, x, v):
            v = 0.5 * v + x
            z = self.spike(v - self.threshold)
            return z, v - v * z

        def spike(self, u):
            return torch.sigmoid(2 * u)

    class Given(ranvier.Neuron):
        threshold = ranvier.Parameter(0.5)
        v = ranvier.State()

        def step(self, x, v):
            v = 0.5 * v + x
            z = torch.sigmoid(2 * (v - self.threshold))
            return z, v - v * z

    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    layer = Normalised(BatchNorm(2), Smooth(), membrane=MembraneBatchNorm(2)).double()
    plain = Normalised(BatchNorm(2), Given()).double()

    def membrane(x, weight, bias):
        return torch.func.functional_call(layer, {"membrane.weight": weight, "membrane.bias": bias}, (x,))

    def ahead(x, weight, bias):
        with ranvier.backend("reference"):
            return torch.func.functional_call(plain, {"norm.weight": weight, "norm.bias": bias}, (x,))

    assert torch.autograd.gradcheck(membrane, (x, weight, bias))
    assert torch.autograd.gradcheck(ahead, (x, weight, bias)) and torch.autograd.gradgradcheck(ahead, (x, weight, bias))


def test_a_membrane_norm_counts_the_real_steps_alone():
    lengths, x = torch.tensor([4, 2, 1]), torch.randn(5, 3, CHANNELS, 3, dtype=torch.float64)
    layer = Normalised(None, ranvier.IF(), membrane=MembraneBatchNorm(CHANNELS, momentum=1.0)).double()
    m = x.clone()
    for t in range(5):  # one step at a time from rest: m is x
        ranvier.run(layer, m[t : t + 1], lengths=(lengths > t).long())
        some = x[t, lengths > t].transpose(0, 1).flatten(1)
        if t < 4:
            assert torch.allclose(layer.membrane.running_mean, some.mean(1))
            assert torch.allclose(layer.membrane.running_var, some.var(1))
    assert layer.membrane.running_mean.isfinite().all(), "no sample was left at the last step"
    y, _ = ranvier.run(layer, x, lengths=lengths)
    assert y.isfinite().all()


def test_a_membrane_norm_takes_each_step_into_its_running_statistics():
    layer = Normalised(None, ranvier.IF(), membrane=MembraneBatchNorm(CHANNELS))
    layer(torch.randn(5, 3, CHANNELS))
    assert layer.membrane.num_batches_tracked == 5


# refusals


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BatchNorm(0), r"BatchNorm\.features: expected a positive number; got 0"),
        (lambda: BatchNorm(4, eps=0.0), r"BatchNorm\.eps: expected a positive number; got 0\.0"),
        (lambda: BatchNorm(4, momentum=2), r"BatchNorm\.momentum: expected a number in \[0, 1\]"),
        (lambda: ThresholdBatchNorm(4, threshold=0), r"ThresholdBatchNorm\.threshold: expected a positive number"),
        (lambda: ThresholdBatchNorm(4, alpha=-1.0), r"ThresholdBatchNorm\.alpha: expected a positive number"),
        (lambda: TemporalBatchNorm(4, steps=0), r"TemporalBatchNorm\.steps: expected a whole number of at least 1"),
        (
            lambda: BatchNorm(4)(torch.zeros(5, 4)),
            r"BatchNorm: expected \[T, B, 4, \.\.\.\], time first; got shape \(5, 4\)",
        ),
        (
            lambda: BatchNorm(4)(torch.zeros(5, 2, 4).long()),
            "BatchNorm: expected floating-point input; got torch.int64",
        ),
        (
            lambda: BatchNorm(4)(torch.zeros(1, 1, 4)),
            "BatchNorm: expected at least two values of each channel in training",
        ),
        (lambda: MembraneBatchNorm(4)(torch.zeros(5, 1, 4)), "MembraneBatchNorm: expected at least two values of each"),
    ],
)
def test_refused_with_what_is_expected(make, text):
    with pytest.raises(ranvier.Refusal, match=text):
        make()


@pytest.mark.parametrize("cls", ALL)
def test_the_docstring_has_every_part(cls):
    text = inspect.getdoc(cls)
    assert re.match(r"[A-Z].*", text.split("\n")[0])
    for part in (r"^Input: .*\[T, B, ", r"Output: .*", r"Raises: ", r"^>>> "):
        assert re.search(part, text, re.MULTILINE), part
