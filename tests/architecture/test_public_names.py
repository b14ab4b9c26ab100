"""The public names are frozen, and each says what it is."""

import inspect
import re
from pathlib import Path

import pytest
from torch import nn

import ranvier

FROZEN = Path(__file__).with_name("public_names.txt")
RENEW = (
    "If that is meant, say so in CHANGELOG.md and renew the list: "
    'python -c "import ranvier; print(*sorted(ranvier.__all__), sep=chr(10))" > tests/architecture/public_names.txt'
)
EXAMPLE_ELSEWHERE = {"load": "in save's", "Parameter": "in Neuron's", "State": "in Neuron's"}
MODULES = [
    name
    for name in ranvier.__all__
    if inspect.isclass(vars(ranvier)[name]) and issubclass(vars(ranvier)[name], nn.Module)
]
CONCRETE = [name for name in MODULES if not inspect.isabstract(vars(ranvier)[name])]


def test_public_names_are_those_agreed_on():
    agreed = FROZEN.read_text(encoding="utf-8").split()
    assert sorted(ranvier.__all__) == agreed, RENEW


def test_all_lists_every_name_once_and_in_order():
    names = [name for name, thing in vars(ranvier).items() if not name.startswith("_") and not inspect.ismodule(thing)]
    assert sorted(ranvier.__all__) == sorted(names)


@pytest.mark.parametrize("name", ranvier.__all__)
def test_a_docstring_begins_with_one_line_that_says_what_it_is(name):
    first, *rest = inspect.getdoc(vars(ranvier)[name]).split("\n")
    assert vars(ranvier)[name].__doc__, "its own, not one inherited"
    assert re.match(r"\S.{10,118}[.:)]$", first) and (not rest or rest[0] == ""), first


@pytest.mark.parametrize("name", CONCRETE)
def test_the_docstring_of_a_module_has_input_output_raises_and_an_example(name):
    text = inspect.getdoc(vars(ranvier)[name])
    for part in (r"^Input: ", r"\bOutput: ", r"\bRaises: ", r"^>>> "):
        assert re.search(part, text, re.MULTILINE), part


@pytest.mark.parametrize(
    "name", [n for n in ranvier.__all__ if n not in MODULES and not isinstance(vars(ranvier)[n], type)]
)
def test_the_docstring_of_a_function_has_an_example_or_says_where(name):
    assert (">>> " in inspect.getdoc(vars(ranvier)[name])) != (name in EXAMPLE_ELSEWHERE)


@pytest.mark.parametrize("name", ["run", "load"])
def test_a_function_that_refuses_says_what(name):
    assert re.search(r"^Raises: ", inspect.getdoc(vars(ranvier)[name]), re.MULTILINE)
