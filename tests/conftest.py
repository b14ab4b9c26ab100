"""What all tests share: one thread, the same random numbers every time, and Hypothesis without a clock."""

from collections.abc import Iterator

import hypothesis
import pytest
import torch

import ranvier

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
