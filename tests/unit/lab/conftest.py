"""A small real task: two kinds of digits, and a network that learns them in a moment."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ranvier
from ranvier.data.samples import Samples, Split
from ranvier.data.sets.digits import Digits
from ranvier.lab.recipe import Session


@pytest.fixture(scope="session")
def split() -> Split:
    def part(name: str, most: int) -> Samples:
        digits = Digits().load(name)
        return digits.take(np.flatnonzero(digits.y < 3)[:most])

    return Split(part("train", 90), part("test", 45))


@pytest.fixture
def network() -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return nn.Sequential(
            ranvier.Direct(4),
            nn.Flatten(2),
            ranvier.Linear(64, 32),
            ranvier.Fold(nn.BatchNorm1d(32)),
            ranvier.LIF(tau=nn.Parameter(torch.full((32,), 2.0))),
            ranvier.Linear(32, 10),
            ranvier.LeakyIntegrator(),
            ranvier.RateDecoder(),
        )

    return make


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path, accelerator="cpu", progress=False)
