"""The engine's program answers as the model does, whole or in chunks, and refuses by name what it can't."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover
from ranvier.deploy.engine import kernels
from ranvier.deploy.engine.program import compile
from ranvier.models.recordings import Standardise
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.synapses.delayed_linear import DelayedLinear
from ranvier.nn.synapses.spike_conv import SpikeConv2d
from ranvier.nn.synapses.spike_linear import SpikeLinear

R = ranvier


def conv_net() -> nn.Module:
    first = [R.Conv2d(2, 5, 3, padding=1), R.Fold(nn.BatchNorm2d(5)), R.LIF(threshold=0.2)]
    second = [SpikeConv2d(5, 6, 3, stride=2, padding=1), R.LIF(threshold=torch.full((6, 1, 1), 0.1))]
    return nn.Sequential(*first, *second, nn.Flatten(2), R.Linear(6 * 5 * 4, 4), R.LeakyIntegrator(tau=3.0))


def pool_net() -> nn.Module:
    first = [R.Conv2d(2, 4, 5, stride=2, padding=2, groups=2), R.LIF(threshold=0.3), R.AvgPool2d(2)]
    second = [R.Conv2d(4, 6, 3, dilation=2, padding=2), R.CuBaLIF(threshold=0.1), R.MaxPool2d(2), R.SumPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(2), R.Linear(6, 4))


def sound_net() -> nn.Module:
    first = [
        R.Scale(9.0),
        R.DelayLine([0, 1]),
        nn.Unflatten(2, (2, 11)),
        R.Conv1d(2, 4, 5, padding="same"),
        R.IntegerLIF(),
    ]
    return nn.Sequential(
        *first, nn.Flatten(2), R.DelayLine([0, 2, 3]), R.Linear(4 * 11 * 3, 6), R.TernaryLIF(threshold=0.1)
    )


def signal_net() -> nn.Module:
    first = [R.Scale([1.0, 2.0, 3.0]), R.TimePool(3), R.DelayLine([0, 1]), R.Linear(6, 9, bias=False)]
    tau = torch.rand(9) * 3 + 1
    neurons = R.LIF(reset_mode="subtract", tau=tau, discretisation="exact")
    last = [R.Linear(9, 3), R.LeakyIntegrator(tau=5.0), R.RateDecoder(), R.Scale(5.0)]
    return nn.Sequential(*first, R.Fold(nn.BatchNorm1d(9)), neurons, nn.Dropout(0.5), *last)


def recurrent_net() -> nn.Module:
    heard = R.Recurrent(R.LIF(threshold=0.3), nn.Linear(9, 9))
    return nn.Sequential(R.Linear(6, 9), heard, SpikeLinear(9, 3), R.LeakyIntegrator())


def first_recurrent() -> nn.Module:
    return nn.Sequential(R.Recurrent(R.LIF(threshold=0.3), nn.Linear(6, 6, bias=False)), R.Linear(6, 3))


def delayed_net() -> nn.Module:
    return nn.Sequential(
        DelayedLinear(6, 9, max_delay=4).rounded(), R.LIF(threshold=0.2), DelayedLinear(9, 3, max_delay=3).rounded()
    )


def sparse_net() -> nn.Module:
    wiring = ranvier.SparseLinear([0, 2, 2, 5], [0, 3, 1, 2, 5], in_features=6)
    return nn.Sequential(wiring, R.LIF(threshold=0.1), R.Linear(3, 2))


def own_net() -> nn.Module:
    first = Standardise((3,)).learn([np.random.default_rng(0).normal(1.0, 2.0, (50, 3))])
    return nn.Sequential(first, R.Linear(3, 9), R.LIF(threshold=0.2), R.Linear(9, 2))


def own_camera() -> nn.Module:
    first = Standardise((2, 6, 5)).learn([np.random.default_rng(0).poisson(0.2, (50, 2, 6, 5))])
    return nn.Sequential(first, R.Conv2d(2, 3, 3), R.LIF(threshold=0.2), nn.Flatten(2), R.Linear(36, 2))


NETS = [
    (own_net, (3,)),
    (own_camera, (2, 6, 5)),
    (conv_net, (2, 9, 8)),
    (pool_net, (2, 17, 16)),
    (sound_net, (11,)),
    (signal_net, (3,)),
    (recurrent_net, (6,)),
    (first_recurrent, (6,)),
    (delayed_net, (6,)),
    (sparse_net, (6,)),
]


def trained(make: object, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = make()  # type: ignore[operator]
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr, operator]
    return model.eval()


def inputs(shape: Sequence[int], analog: bool, steps: int = 12) -> Tensor:
    return torch.randn(steps, 3, *shape) if analog else torch.bernoulli(torch.full((steps, 3, *shape), 0.3))


@pytest.mark.parametrize("analog", [False, True])
@pytest.mark.parametrize(("make", "shape"), NETS)
@torch.no_grad()
def test_the_program_is_the_model(make: object, shape: tuple[int, ...], analog: bool) -> None:
    model = trained(make)
    x = inputs(shape, analog)
    y = compile(model, shape)(x)
    torch.testing.assert_close(y, model(x), atol=1e-5, rtol=1e-5)
    assert y.abs().sum() > 0


@pytest.mark.parametrize(("make", "shape"), NETS)
def test_chunks_are_the_whole(make: object, shape: tuple[int, ...]) -> None:
    program, x = compile(trained(make), shape), inputs(shape, False)
    whole, end = program.run(x)
    first, state = program.run(x[:6])
    second, state = program.run(x[6:], state)
    assert torch.equal(second if whole.ndim == 2 else torch.cat([first, second]), whole)
    assert state.keys() == end.keys() and all(torch.equal(state[name], end[name]) for name in end)


@pytest.mark.parametrize("name", sorted(discover("ranvier.nn.neurons", base="neuron")))
@torch.no_grad()
def test_any_neuron_of_the_library(name: str) -> None:
    kind = discover("ranvier.nn.neurons", base="neuron")[name].load()
    torch.manual_seed(0)
    model = nn.Sequential(R.Linear(5, 19), kind(), R.Linear(19, 2))
    if issubclass(kind, Neuron) and not kind.random:
        x = inputs((5,), True)
        torch.testing.assert_close(compile(model, [5])(x), model(x), atol=1e-4, rtol=1e-4)
    else:
        with pytest.raises(Refusal, match="without chance"):
            compile(model, [5])


@torch.no_grad()
def test_static_pictures_are_given_their_time_by_torch() -> None:
    model = trained(
        lambda: nn.Sequential(
            R.Conv2d(1, 3, 3), R.Direct(4), R.LIF(threshold=0.1), nn.Flatten(2), R.Linear(108, 5), R.RateDecoder()
        )
    )
    x = torch.rand(1, 2, 1, 8, 8)
    torch.testing.assert_close(compile(model, [1, 8, 8])(x), model(x))


def test_step_by_step_and_by_events_is_the_same_as_frames() -> None:
    program, x = compile(trained(conv_net), (2, 9, 8)), inputs((2, 9, 8), False)[:, 0].reshape(12, -1)
    frames = program.live().frames(x)
    live = program.live()
    steps = np.stack([live.step(np.ascontiguousarray(row)).copy() for row in x.numpy()])
    t, places = np.nonzero(x.numpy())
    events = program.live().events(np.searchsorted(t, np.arange(13)), places)
    assert np.array_equal(frames.numpy(), steps) and np.array_equal(events, steps)


def test_events_that_fall_together_count_or_not() -> None:
    program = compile(nn.Sequential(R.Linear(2, 1, bias=False)), [2])
    w = program(torch.eye(2)[None, :1]).item()
    twice = np.array([0, 2]), np.array([0, 0])
    assert program.live().events(*twice)[0, 0] == 2 * w and program.live().events(*twice, once=True)[0, 0] == w


def test_two_streams_have_memory_of_their_own() -> None:
    program = compile(trained(recurrent_net), [6])
    x = inputs((6,), False)[:, 0]
    a, b = program.live(), program.live()
    a.frames(x)
    kept = b.state()
    assert all(not value.any() or name.endswith("mark") for name, value in kept.items())
    c = program.live(a.state())
    assert torch.equal(a.frames(x), c.frames(x))


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_what_it_can_not_do_is_refused_by_name() -> None:
    for model, shape, words in (
        (nn.Sequential(Odd()), [3], "forward|layers that"),
        (nn.Sequential(R.Linear(3, 2), nn.Sequential(Odd())), [3], "1.0"),
        (nn.Sequential(R.Linear(3, 2)), [4], "shape"),
        (nn.Sequential(R.Conv2d(3, 2, 3)), [2, 8, 8], "shape"),
        (nn.Sequential(DelayedLinear(3, 2, max_delay=2)), [3], "rounded"),
        (nn.Sequential(R.Recurrent(R.LIF(), Odd())), [3], "Linear synapse"),
    ):
        with pytest.raises(Refusal, match=words):
            compile(model, shape)
    program = compile(nn.Sequential(R.Linear(3, 2), R.LIF()), [3])
    with pytest.raises(Refusal, match="3"):
        program(torch.zeros(5, 1, 4))
    with pytest.raises(Refusal, match="state"):
        program.live({"other": np.zeros(2)})
    for starts, places in (([0, 2, 1], [0, 1]), ([0, 3], [0, 1]), ([0, 1], [3]), ([0, 1], [-1]), ([], [])):
        with pytest.raises(Refusal):
            program.live().events(np.array(starts, np.int64), np.array(places, np.int64))


SILENT = {
    "LIF": lambda: R.LIF(threshold=0.4),
    "a soft reset": lambda: R.LIF(threshold=0.1, reset_mode="subtract", tau=5.0, discretisation="exact"),
    "a tau of each channel": lambda: R.LIF(threshold=0.3, tau=torch.linspace(1.0, 9.0, 8)[:, None, None]),
    "no leak": lambda: R.IF(threshold=0.9),
    "a learnt leak": lambda: R.ParametricLIF(threshold=0.3),
}


@pytest.mark.parametrize("density", [0.0005, 0.01, 0.3])
@pytest.mark.parametrize("bias", [-0.02, 0.0, 0.01])
@pytest.mark.parametrize("name", SILENT)
@torch.no_grad()
def test_who_rests_in_silence_is_brought_up_to_date(name: str, bias: float, density: float) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(R.Conv2d(2, 8, 3, padding=1), SILENT[name](), nn.Flatten(2), R.Linear(8 * 400, 5))
    nn.init.constant_(model[0].bias, bias)
    x = torch.bernoulli(torch.full((60, 2, 2, 20, 20), density))
    program, awake = compile(model, [2, 20, 20]), compile(model, [2, 20, 20], skip=False)
    codes = [op[0] for op in program.lowered.ops]
    climbs = bias > 0 and name == "no leak"  # a current that makes neurons fire by itself
    assert ((kernels.RESTING in codes) != climbs and kernels.NEURON not in codes) or climbs
    y = program(x)
    torch.testing.assert_close(y, awake(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(y, model(x), atol=1e-5, rtol=1e-5)
    _, state = program.run(x[:31])
    assert torch.equal(torch.cat([program(x[:31]), program.run(x[31:], state)[0]]), y)


def test_neurons_that_would_fire_in_silence_do_not_rest() -> None:
    for neuron in (R.CuBaLIF(), R.Izhikevich(), R.TernaryLIF(), R.AdaptiveLIF()):
        model = nn.Sequential(R.Conv2d(1, 2, 3), neuron)
        assert kernels.RESTING not in [op[0] for op in compile(model, [1, 6, 6]).lowered.ops]
    model = nn.Sequential(R.Conv2d(1, 2, 3), R.LIF(threshold=0.1))
    nn.init.constant_(model[0].bias, 0.2)  # type: ignore[arg-type]
    assert kernels.RESTING not in [op[0] for op in compile(model, [1, 6, 6]).lowered.ops]
