"""What all tests share: one thread, the same random numbers every time, and Hypothesis without a clock."""

import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

import ranvier
from ranvier.core.checks import MissingData

torch.set_num_threads(1)
hypothesis.settings.register_profile("ranvier", deadline=None, derandomize=True, max_examples=25, database=None)
hypothesis.settings.load_profile("ranvier")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def reference() -> Iterator[None]:
    """Neurons as the loop over their `step`, whose bits a loop by hand can reach."""
    with ranvier.backend("reference"):
        yield


@pytest.fixture
def where_it_is():
    """Reads data, or skips by name where they are not on this machine; with a folder of copies they have to be."""

    def read(function):
        try:
            return function()
        except MissingData as why:
            if os.environ.get("RANVIER_DATA"):
                raise
            pytest.skip(str(why))

    return read
