"""docs/neurons.md is what the neurons say now."""

import importlib.util
import os
from difflib import unified_diff
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ranvier.compile.triton import OPERATIONS
from ranvier.core.discovery import discover
from ranvier.lab.neuron_page import FUNCTIONS, KINDS, RENEW, page

DOCS = Path(__file__).parents[2] / "docs"
NEURONS = discover("ranvier.nn.neurons", base="neuron")


def test_every_operation_of_a_step_is_counted() -> None:
    counted = [op for ops in (*KINDS.values(), FUNCTIONS) for op in ops]
    assert sorted(counted) == sorted(OPERATIONS.keys() - {"detach"})


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed: no GPU kernel is built"
)
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton's interpreter compiles nothing")
def test_the_page_is_up_to_date() -> None:
    kept, made = (DOCS / "neurons.md").read_text(encoding="utf-8"), page()
    changes = "\n".join(
        unified_diff(kept.splitlines(), made.splitlines(), "docs/neurons.md", "the neurons", lineterm="")
    )
    assert kept == made, f"Run: {RENEW}\n{changes}"


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_has_a_small_drawing(name: str) -> None:
    text = (DOCS / "neurons" / f"{name}.svg").read_text(encoding="utf-8")
    assert len(text) < 20_000 and ElementTree.fromstring(text).tag.endswith("svg"), f"Run: {RENEW}"


def test_no_drawing_is_left_of_a_neuron_that_is_gone() -> None:
    assert {path.stem for path in (DOCS / "neurons").glob("*.svg")} == NEURONS.keys()
