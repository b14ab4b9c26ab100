"""Networks that between them use every operation, and what it takes to run an exported file."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ranvier as R  # noqa: N812
from ranvier.nn.synapses.delayed_linear import DelayedLinear

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
CHECKED = ("-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover")


def picture() -> nn.Module:
    first = [R.Conv2d(2, 4, 5, stride=2, padding=2, groups=2), R.LIF(threshold=0.3), R.AvgPool2d(2)]
    second = [R.Conv2d(4, 6, 3, padding=1), R.CuBaLIF(threshold=torch.full((6, 1, 1), 0.1)), R.MaxPool2d(2)]
    return nn.Sequential(
        *first, *second, nn.Flatten(2), R.Linear(6 * 4, 4), R.LIF(threshold=0.1), R.FirstSpikeDecoder()
    )


def sound() -> nn.Module:
    first = [R.Scale(9.0), R.DelayLine([0, 1]), nn.Unflatten(2, (2, 11)), R.Conv1d(2, 4, 5, padding="same")]
    second = [
        R.IntegerLIF(),
        nn.Flatten(2),
        R.DelayLine([0, 2, 3]),
        R.Linear(4 * 11 * 3, 6),
        R.TernaryLIF(threshold=0.1),
    ]
    return nn.Sequential(*first, *second, R.MaxDecoder())


def signal() -> nn.Module:
    first = [R.Scale([1.0, 2.0, 3.0]), R.TimePool(3), R.DelayLine([0, 1]), R.Linear(6, 9, bias=False)]
    neurons = R.LIF(reset_mode="subtract", tau=torch.rand(9) * 3 + 1, discretisation="exact")
    last = [R.Linear(9, 3), R.LeakyIntegrator(tau=5.0), R.RateDecoder(), R.Scale(5.0)]
    return nn.Sequential(*first, R.Fold(nn.BatchNorm1d(9)), neurons, nn.Dropout(0.5), *last)


def recurrent() -> nn.Module:
    heard = R.Recurrent(R.LIF(threshold=0.3), nn.Linear(9, 9))
    return nn.Sequential(R.Linear(6, 9), heard, R.Linear(9, 3), R.LeakyIntegrator(), R.LastDecoder())


def straight() -> nn.Module:
    """What comes in goes into recurrent neurons as it is, and a synapse into a synapse."""
    return nn.Sequential(R.Recurrent(R.LIF(threshold=0.3), nn.Linear(6, 6, bias=False)), R.Linear(6, 5), R.Linear(5, 3))


def delayed() -> nn.Module:
    first = [DelayedLinear(6, 9, max_delay=4).rounded(), R.AdaptiveLIF(threshold=0.2)]
    return nn.Sequential(*first, DelayedLinear(9, 5, max_delay=3).rounded(), R.Linear(5, 3))


def pictures_pooled() -> nn.Module:
    return nn.Sequential(R.Conv2d(1, 3, 3, padding="same"), R.AdaptiveLIF(threshold=0.2), R.SumPool2d(2), R.IF())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "picture": (picture, (2, 16, 16)),
    "sound": (sound, (11,)),
    "signal": (signal, (3,)),
    "recurrent": (recurrent, (6,)),
    "straight": (straight, (6,)),
    "delayed": (delayed, (6,)),
    "pictures_pooled": (pictures_pooled, (1, 6, 6)),
}


@pytest.fixture
def networks() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    return NETWORKS


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...]]:
    make, shape = NETWORKS[request.param]
    return make().eval(), shape


@pytest.fixture
def answers() -> Callable[..., str]:
    """Compile an exported file with its test, run it; what it prints. Fails where its test does, or a warning comes."""

    def run(path: Path, *options: str, checked: bool = True) -> str:
        program = path.with_suffix("")
        flags = [*WARNINGS, *(CHECKED if checked else ("-O2",)), f"-D{path.stem.upper()}_TEST", *options]
        built = subprocess.run(["gcc", *flags, str(path), "-o", str(program), "-lm"], capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        done = subprocess.run([str(program)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(params=["spikes", "numbers", "silence", "large"])
def steps(request: pytest.FixtureRequest) -> Callable[..., torch.Tensor]:
    """Sequences of a shape."""

    def draw(*shape: int) -> torch.Tensor:
        rng = np.random.default_rng(5)
        x = {
            "spikes": lambda: rng.random(shape) < 0.3,
            "numbers": lambda: rng.normal(size=shape),
            "silence": lambda: np.zeros(shape),
            "large": lambda: 1000 * rng.normal(size=shape),
        }[request.param]()
        return torch.from_numpy(np.float32(x))

    return draw
