"""Rooms whose files each hold one public thing: found by looking, without registries."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ranvier.core.checks import Refusal, nearest


@dataclass(frozen=True)
class Found:
    """One public thing of a room, known by its file without importing it."""

    name: str
    module: str
    attribute: str
    summary: str

    def load(self) -> Any:
        """Import the file and return its public class or function."""
        return getattr(importlib.import_module(self.module), self.attribute)


def discover(room: str, base: str | None = None) -> dict[str, Found]:
    """The things of a room (a package's dotted name) by their command-line names.

    `base` is the file that holds the abstract class and is no member.

    >>> sorted(discover("ranvier.nn.neurons", base="neuron"))[:2]
    ['adaptive-lif', 'adex']
    """
    spec = find_spec(room)
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = (m.name for m in pkgutil.iter_modules([str(folder)]) if m.name != base and not m.name.startswith("_"))
    found = (_read(room, folder / f"{stem}.py") for stem in files)
    return {thing.name: thing for thing in sorted(found, key=lambda thing: thing.name)}


def find(kind: str, name: str, room: str, base: str | None = None) -> Found:
    """The thing called `name`, or a refusal with the nearest names."""
    known = discover(room, base)
    if name not in known:
        raise Refusal(kind, expected="a known name", got=repr(name), do=nearest(name, known))
    return known[name]


def _read(room: str, path: Path) -> Found:
    public = list(_public(ast.parse(path.read_text(encoding="utf-8"))))
    if len(public) != 1:
        names = ", ".join(node.name for node in public) or "none"
        raise Refusal(
            str(path), expected="one public class or function", got=names, do="Move the others to files of their own."
        )
    summary = inspect.cleandoc(ast.get_docstring(public[0]) or "").split("\n")[0]
    return Found(path.stem.replace("_", "-"), f"{room}.{path.stem}", public[0].name, summary)


def _public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node
