"""Rooms hold one thing a file, files stay short, and names say what a thing is."""

import ast
import inspect
import re

import pytest

import ranvier
from ranvier.core.discovery import discover

LONGEST = 400
BANNED = re.compile(r"utils?$|helpers?$|managers?$", re.IGNORECASE)
MAY_UNPICKLE = {"data.sets.smartwatch": "seglearn carries its recordings as a pickle; opened only after its checksum"}
KEYWORDS = {"integrate-and-fire": "IF"}  # a file can't be called if.py
ROOMS = [("ranvier.nn.neurons", "neuron"), ("ranvier.data.sets", "dataset"), ("ranvier.recipes", None)]


@pytest.mark.parametrize(("place", "base"), ROOMS)
def test_a_room_holds_one_public_thing_a_file_named_like_it(place, base):
    found = discover(place, base)
    assert found
    for name, thing in found.items():
        named = KEYWORDS.get(name, name.replace("-", ""))
        assert thing.attribute.replace("_", "").lower() == named.lower(), f"{thing.module}: {thing.attribute}"
        assert thing.summary.endswith("."), f"{thing.module}: a first line that says what it is"
        kind = thing.load()
        if place == "ranvier.recipes":
            assert inspect.isfunction(kind)
        else:
            parent = next(
                c for n, c in vars(__import__(f"{place}.{base}", fromlist=["_"])).items() if n.lower() == base
            )
            assert issubclass(kind, parent) and not inspect.isabstract(kind)


def test_every_neuron_is_exported():
    missing = [
        t.attribute
        for t in discover("ranvier.nn.neurons", base="neuron").values()
        if t.attribute not in ranvier.__all__
    ]
    assert not missing, f"add to ranvier/__init__.py: {missing}"


def test_no_file_is_too_long(source):
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in source.paths.items()}
    assert not {name: n for name, n in lengths.items() if n > LONGEST}, "ask what is two things"


def test_nothing_is_called_utils_helper_or_manager(source):
    files = [
        name
        for name in source.paths
        if any(BANNED.search(word) for part in name.split(".") for word in part.split("_"))
    ]
    classes = [
        f"{name}.{node.name}"
        for name, tree in source.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and BANNED.search(node.name)
    ]
    assert not files + classes


def test_nothing_is_unpickled(source):
    """A pickle runs code that the file brings along."""
    found = {name for name, tree in source.trees.items() for node in ast.walk(tree) if _unpickles(node)}
    assert found == MAY_UNPICKLE.keys()


def _unpickles(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in _PICKLERS for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module.split(".")[0] in _PICKLERS or (
            node.module == "torch" and any(a.name == "load" for a in node.names)
        )
    if isinstance(node, ast.keyword):
        return node.arg == "allow_pickle" and not (isinstance(node.value, ast.Constant) and node.value.value is False)
    return isinstance(node, ast.Attribute) and ast.unparse(node) in (
        "torch.load",
        "pd.read_pickle",
        "pandas.read_pickle",
    )


_PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}


def test_the_top_holds_public_names_and_nothing_else(source):
    for node in source.trees[""].body:
        lazy = isinstance(node, ast.FunctionDef) and node.name == "__getattr__"  # what would import upwards
        assert (
            lazy
            or isinstance(node, ast.ImportFrom)
            or ast.unparse(node).startswith(("'", '"', "__all__", "__version__"))
        ), ast.unparse(node)
