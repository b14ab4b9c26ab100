"""Fused kernels against the reference, for every neuron: on the CPU, on a GPU where there is one, in Triton's interpreter.

Rounding differs between kernels and torch (products and sums contract, 1 / tau is a factor), and a spike turns on one unit
in the last place. So values are compared step by step, the reference starting each step from the kernel's state, and
where they differ beyond rounding a comparison inside the reference's step must have been a tie to 1e-5. All outputs of
kernels lie in memory full of NaN, between margins that must stay as they are.
"""

import copy
import gc
import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import ranvier
from ranvier.compile import plan
from ranvier.core.discovery import discover

NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
# one option each is enough here: test_neurons.py crosses them
OPTIONS = {
    torch.float32: {},
    torch.float64: {"reset_mode": "subtract", "detach_reset": True, "discretisation": "exact"},
    torch.bfloat16: {"reset_mode": "subtract", "temporal_grad": "none"},
    torch.float16: {"detach_reset": True},
}
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# the interpreter takes its time over each kernel: there float64 and bfloat16 are for two neurons, below
LOCKED = [torch.float32] if INTERPRETED else [torch.float32, torch.float64, torch.bfloat16]
WHOLE = [torch.float32] if INTERPRETED else [torch.float32, torch.float64]
if INTERPRETED:
    gc.set_threshold(100_000)  # it makes very many small objects
STEPS, BATCH = 19, 2  # more than two segments of 8, or one of 16, and a rest
WARM_UP = 5
BAND = 1e-5

every = pytest.mark.parametrize("cls", NEURONS.values(), ids=NEURONS)
two = pytest.mark.parametrize("cls", [ranvier.LIF, ranvier.AdaptiveLIF])  # with one state and with two


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() and not INTERPRETED else [])])
def device(request, monkeypatch):
    """Where neurons run; their kernels' outputs lie in memory full of NaN, whose margins stay untouched."""
    device_of, margins, size = plan._device, [], 640

    def poisoning(x):
        def empty(shape, dtype):
            number = torch.Size(shape).numel()
            block = torch.full((number + 2 * size,), torch.nan, dtype=dtype, device=x.device)
            margins.extend([block[:size], block[size + number :]])
            return block[size : size + number].view(tuple(shape))

        return device_of(x)[0], empty

    monkeypatch.setattr(plan, "_device", poisoning)
    yield torch.device(request.param)
    assert margins and all(margin.isnan().all() for margin in margins), "written past an end"


def made(cls, device, dtype=torch.float32, features=(5,), shape=None, **options):
    """A neuron whose parameters are all learnt and differ from feature to feature, within their bounds."""
    values = {}
    for name, declared in cls.declared.items():
        value = torch.full(features if shape is None else shape, declared.default, dtype=torch.float64)
        moved = value + 0.1 * (abs(declared.default) or 1.0) * (torch.rand_like(value) + 0.1)
        value = torch.where(moved <= declared.high, moved, 2 * value - moved).clamp(declared.low, declared.high)
        values[name] = nn.Parameter(value.to(device, torch.float64 if dtype == torch.float64 else torch.float32))
    return cls(**values, **(OPTIONS[dtype] | options))


def driven(layer, features=(5,), steps=STEPS, batch=BATCH, dtype=torch.float32):
    """Input that makes the neuron fire at a sensible rate, and the state it has after some steps of it."""
    device = next(layer.parameters()).device
    noise = torch.randn(WARM_UP + steps, batch, *features, dtype=torch.float64) + 0.5
    found = []
    with ranvier.backend("reference"), torch.no_grad():
        for scale in (1.0, 3.0, 10.0, 0.3, 30.0, 100.0):
            x = (scale * noise).to(device, dtype)
            y, state = ranvier.run(layer, x[:WARM_UP])
            y = ranvier.run(layer, x[WARM_UP:], state)[0]
            if not all(t.isfinite().all() for t in (y, *state.values())):
                continue
            rate = (y != 0).double().mean().item() if y.numel() else 0.3
            found.append((0.0 if 0.02 <= rate <= 0.6 or not layer.spiking else abs(rate - 0.3), x[WARM_UP:], state))
            if found[-1][0] == 0.0:
                break
    return min(found, key=lambda f: f[0])[1:]


def run(layer, x, state, backend="fused"):
    """Output, final states and the course of all states, as a flat dict of what has a gradient."""
    with ranvier.backend(backend):
        y, after, course = ranvier.run(layer, x, state, record=layer.records)
    finals = {f"final {k}": after[k] for k in layer.states}
    return {"y": y, **finals, **{f"course of {k}": course[k] for k in layer.states}}


def leaves(layer, x, state):
    x = x.detach().clone().requires_grad_()
    state = {k: s.detach().clone().requires_grad_(s.is_floating_point()) for k, s in state.items()}
    return x, state, [x, *(state[k] for k in layer.states), *layer.parameters()]


def gradients(found, weights, wanted):
    loss = sum((weights[k] * found[k]).sum() for k in found)
    if not loss.requires_grad:
        return [torch.zeros_like(w) for w in wanted]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(grads, wanted, strict=True)]


class Ties(TorchDispatchMode):
    """Notes where a comparison, or another operation with an edge, was decided by less than BAND."""

    def __init__(self, shape):
        super().__init__()
        self.ties = torch.zeros(shape, dtype=torch.bool)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in ("lt", "le", "gt", "ge", "maximum", "minimum"):
            self.see(args[0], args[0] - args[1])
        elif name in ("clamp", "clamp_min", "clamp_max", "abs", "sign"):
            for edge in (*args[1:], *kwargs.values()) or (0.0,):
                if edge is not None:
                    self.see(args[0], args[0] - edge)
        elif name in ("floor", "round"):
            half = 0.5 if name == "round" else 0.0
            self.see(args[0], args[0] - half - torch.round(args[0] - half))
        return func(*args, **kwargs)

    def see(self, value, distance):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            tie = (distance.abs() <= BAND * (1 + value.abs())).cpu()
            if tie.ndim == 0 or torch.broadcast_shapes(tie.shape, self.ties.shape) == self.ties.shape:
                self.ties |= tie


def close(actual, expected, dtype):
    """Element by element; bfloat16 and float16 to one unit in the last place."""
    actual, expected = actual.double(), expected.double()
    relative = {torch.float64: 1e-10}.get(dtype, 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps)
    scale = expected.square().mean().sqrt() if expected.numel() else 1.0
    return (actual - expected).abs() <= relative * torch.maximum(actual.abs(), expected.abs()) + 0.1 * relative * scale


def agree(actual, expected, tolerance, more=0.0):
    """By the largest element: a gradient is a sum whose parts may cancel."""
    assert actual.shape == expected.shape and actual.isfinite().all()
    if actual.numel():
        error = (actual.double() - expected.double()).abs().max().item()
        assert error <= tolerance * expected.double().abs().max().item() + more + 1e-30


@every
@pytest.mark.parametrize("dtype", LOCKED, ids=str)
def test_every_step_and_its_gradients_are_those_of_the_reference(cls, dtype, device):
    layer = made(cls, device, dtype)
    x, state = driven(layer, dtype=dtype)
    whole = {k: v.detach() for k, v in run(layer, x, state).items()}
    # all steps as one batch of single steps, each from the state in which the kernel came to it
    before = {k: torch.cat([state[k][None], whole[f"course of {k}"][:-1]]).flatten(0, 1) for k in layer.states}
    if layer.random:
        t = torch.arange(STEPS, device=device)[:, None]
        before |= {"seed": state["seed"].expand(STEPS, -1).flatten(), "step": (state["step"] + t).flatten()}
    single = x.flatten(0, 1)[None]
    leaf, start, wanted = leaves(layer, single, before)
    with Ties(single.shape[1:]) as seen:
        expected = run(layer, leaf, start, "reference")
    same = close(whole["y"].flatten(0, 1), expected["y"][0], dtype)
    for k in layer.states:
        number = torch.float64 if dtype == torch.float64 else torch.float32
        same &= close(whole[f"course of {k}"].flatten(0, 1), expected[f"final {k}"], number)
    ties = seen.ties.to(device)
    assert (same | ties).all(), "differs where no comparison was close"
    assert (~same).double().mean() < 0.01
    for k in layer.states:
        assert torch.equal(whole[f"final {k}"], whole[f"course of {k}"][-1])
    if not INTERPRETED:  # what keeps nothing for backward computes the same
        with torch.no_grad():
            assert torch.equal(run(layer, x, state)["y"], whole["y"])

    sure = (same & (~ties | (ties.double().mean() > 0.2))).to(dtype)  # a tie at rest, say, is one for both
    weights = {k: (torch.randn_like(v) * sure).to(v.dtype) for k, v in expected.items()}
    want = gradients(expected, weights, wanted)
    leaf, start, wanted = leaves(layer, single, before)
    got = gradients(run(layer, leaf, start), weights, wanted)
    for actual, other in zip(got, want, strict=True):
        agree(actual, other, {torch.float64: 1e-10, torch.float32: 1e-5}.get(actual.dtype, 2**-8))


@every
@pytest.mark.parametrize("dtype", WHOLE, ids=str)
def test_gradients_through_time_are_those_of_the_reference(cls, dtype, device):
    layer = made(cls, device, dtype)
    x, state = driven(layer, dtype=dtype)
    double = copy.deepcopy(layer).double()

    def all_of(layer, backend, dtype):
        start = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
        leaf, start, wanted = leaves(layer, x.to(dtype), start)
        return run(layer, leaf, start, backend), wanted

    fused, exact = all_of(layer, "fused", dtype), all_of(double, "reference", torch.float64)
    plain = all_of(layer, "reference", dtype)
    # a neuron whose spikes differ, in the end because of a tie, goes another way from there
    same = torch.ones(x.shape[1:], dtype=torch.bool, device=device)
    for other in (fused[0]["y"], plain[0]["y"]):
        same &= ((other.double() - exact[0]["y"]).abs() <= 1e-3 * (1 + exact[0]["y"].abs())).all(0)
    assert same.double().mean() >= 0.8
    weights = {k: torch.randn_like(v) * same for k, v in exact[0].items()}
    got, want, by_torch = (
        gradients(found, {k: w.to(found[k].dtype) for k, w in weights.items()}, wanted)
        for found, wanted in (fused, exact, plain)
    )
    for actual, expected, other in zip(got, want, by_torch, strict=True):
        if dtype == torch.float64:
            agree(actual, expected, 1e-9)
        else:  # as near the true value as torch's own float32, where a neuron is so stiff that this is farther
            agree(actual, expected, 1e-5, 4 * (other.double() - expected).abs().max().item())


@every
def test_a_sequence_in_chunks_gives_the_bits_of_the_whole(cls, device):
    layer = made(cls, device)
    x, state = driven(layer)
    whole = run(layer, x, state)
    for cuts in ((8, 11),) if INTERPRETED else ((1, 9, 9), (8, 11), (16, 3)):
        parts, later = [], state
        for chunk in x.split(cuts):
            y, later, _ = ranvier.run(layer, chunk, later, record=layer.records)
            parts.append(y)
        assert torch.equal(torch.cat(parts), whole["y"])
        assert all(torch.equal(later[k], whole[f"final {k}"]) for k in layer.states)


@every
def test_none_or_one_of_steps_and_an_empty_batch(cls, device):
    layer = made(cls, device)
    for steps, batch in ((0, 2), (1, 2), (3, 0)):
        x, state = driven(layer, steps=steps, batch=batch)
        results = []
        for backend in ("fused", "reference"):
            leaf, start, wanted = leaves(layer, x, state)
            found = run(layer, leaf, start, backend)
            torch.manual_seed(1)
            weights = {k: torch.randn_like(v) for k, v in found.items()}
            results.append([*found.values(), *gradients(found, weights, wanted)])
        for actual, expected in zip(*results, strict=True):
            assert actual.dtype == expected.dtype
            agree(actual, expected, 1e-4)


# What depends on sizes and layouts, not on the equation


@two
@pytest.mark.parametrize("steps", [1, 8, 9, 17, 7, 15, 16, 31, 32, 33, 49][: 4 if INTERPRETED else None])
def test_numbers_of_steps_around_the_segments(cls, steps, device):
    equal_to_reference(made(cls, device, features=(3,)), steps=steps, features=(3,))


@two
@pytest.mark.parametrize(
    "neurons", [1, 127, 128, 129, 15, 17, 255, 256, 257, 511, 512, 513, 1041][: 4 if INTERPRETED else None]
)
def test_numbers_of_neurons_around_vectors_and_blocks(cls, neurons, device):
    equal_to_reference(made(cls, device, features=(neurons,)), steps=9, batch=1, features=(neurons,))


@two
@pytest.mark.parametrize(
    ("features", "shape"),
    [
        ((6, 4, 5), (6, 1, 1)),
        ((6, 4, 5), (6, 1, 5)),
        ((6, 4, 5), (4, 1)),
        ((6, 4, 5), (1,)),
        ((6, 4, 5), ()),
        ((6, 4, 5), (6, 4, 5)),
        ((1, 7), (1, 7)),
        ((600, 1), (600, 1)),
        ((3, 700), (3, 1)),
        ((3, 700), (700,)),
        ((6, 4), (BATCH, 1, 1)),
        ((6, 4), (BATCH, 6, 4)),
        ((6, 4), (BATCH, 1, 4)),
        ((6, 4), (BATCH, 6, 1)),
    ][: 4 if INTERPRETED else None],
)
def test_parameters_per_sample_per_channel_per_feature_and_repeated_in_the_middle(cls, features, shape, device):
    # in float64, because the gradient of a parameter that many neurons share is a sum that may cancel
    double = torch.float64
    equal_to_reference(made(cls, device, double, shape=shape), 1e-10, features=features, steps=9, dtype=double)


@two
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_sixteen_bit_input_and_output(cls, dtype, device):
    layer = made(cls, device, dtype)
    x, state = driven(layer, dtype=dtype)
    leaf, start, wanted = leaves(layer, x, state)
    found = run(layer, leaf, start)
    weights = {k: torch.randn_like(v) for k, v in found.items()}
    wide, start_32, wanted_32 = leaves(layer, x.float(), state)
    found_32 = run(layer, wide, start_32)
    got = [*found.values(), *gradients(found, weights, wanted)]
    want = [*found_32.values(), *gradients(found_32, {k: w.float() for k, w in weights.items()}, wanted_32)]
    for actual, wide in zip(got, want, strict=True):  # the arithmetic is that of float32; the output is rounded once
        cut_off = INTERPRETED and actual.dtype == torch.bfloat16  # which its store does not round
        assert torch.equal(actual, wide.to(actual.dtype)) or (cut_off and close(actual, wide, dtype).all())


@two
def test_input_state_and_gradients_that_are_not_contiguous(cls, device):
    layer = made(cls, device, features=(3, 5))
    x, state = driven(layer, features=(3, 5))
    plain = equal_to_reference(layer, x=x, state=state)
    twice = torch.stack([x, x], -1)
    for other in (
        x.transpose(0, 1).contiguous().transpose(0, 1),
        x.transpose(2, 3).contiguous().transpose(2, 3),
        twice[..., 0],
        torch.cat([x, x])[: len(x)],
        torch.cat([x, x], 1)[:, :BATCH],
    ):
        assert torch.equal(other, x)
        turned = {k: torch.stack([s, s], -1)[..., 1] for k, s in state.items()}
        for actual, expected in zip(equal_to_reference(layer, x=other, state=turned), plain, strict=True):
            assert torch.equal(actual, expected)
    one = x[:1].expand(STEPS, *x.shape[1:])  # one step, repeated: stride 0
    for actual, expected in zip(
        equal_to_reference(layer, x=one, state=state),
        equal_to_reference(layer, x=one.contiguous(), state=state),
        strict=True,
    ):
        assert torch.equal(actual, expected)


@two
@pytest.mark.parametrize("part", ["y", "final", "course"])
def test_a_loss_of_the_output_the_final_states_or_their_course_alone(cls, part, device):
    layer = made(cls, device)
    x, state = driven(layer)
    equal_to_reference(layer, x=x, state=state, part=part)
    equal_to_reference(layer, x=x, part=part)  # from rest


def test_random_numbers_have_the_same_bits_whatever_the_seed_and_step(device):
    class Dice(ranvier.Neuron):
        random = True
        sides = ranvier.Parameter(1.0)
        v = ranvier.State()

        def step(self, x, v):
            return self.uniform(), self.normal()

    # a seed travels as the bits of two float32 numbers; some of them are those of a NaN that signals
    seed = torch.tensor([0, 1, 0x7F800001, 0xFF800001, 0x7F800001 << 32, 2**62 - 1, 2**31, 2**32], device=device)
    step = torch.tensor([0, 5, 2**31 - 2, 2**32 - 2, 0x7F800000, 1, 2, 3], device=device)
    x = torch.zeros(3, 8, 70, device=device)
    state = {"v": torch.zeros_like(x[0]), "seed": seed, "step": step}
    fused, plain = (run(Dice(sides=1.0).to(device), x, state, backend) for backend in ("fused", "reference"))
    assert torch.equal(fused["y"], plain["y"]) and fused["y"].unique().numel() > 1600
    assert torch.allclose(fused["course of v"], plain["course of v"], rtol=1e-5, atol=1e-6)


def equal_to_reference(layer, tolerance=1e-5, x=None, state=None, part="", **sizes):
    """The kernel's results, once they have turned out to be those of the reference where no spike differs."""
    if x is None:
        x, state = driven(layer, **sizes)
    results = []
    for backend in ("fused", "reference"):
        leaf = x.detach().requires_grad_()  # not a copy: its layout is what is tested
        start = state and {k: s.detach().requires_grad_(s.is_floating_point()) for k, s in state.items()}
        wanted = [leaf, *((start[k] for k in layer.states) if start else ()), *layer.parameters()]
        results.append((run(layer, leaf, start, backend), wanted))
    same = (results[0][0]["y"] == results[1][0]["y"]).all(0)
    assert same.double().mean() > 0.95
    torch.manual_seed(1)
    weights = {k: torch.randn(v.shape).to(v) * same for k, v in results[0][0].items() if k.startswith(part)}
    compared = []
    for found, wanted in results:
        chosen = {k: v for k, v in found.items() if k in weights}
        compared.append([*(v * same for v in found.values()), *gradients(chosen, weights, wanted)])
    for actual, expected in zip(*compared, strict=True):
        agree(actual, expected, tolerance)
    return compared[0]


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_kernels_keep_to_all_of_this_in_the_interpreter():
    pytest.importorskip("triton")
    # Triton chooses its interpreter when it is imported, so it has a process of its own
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    found = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
