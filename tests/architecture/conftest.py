"""The package as text: its files and what each imports, without importing any."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "ranvier"


class Source:
    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}
        """By place in the package, as `nn.neurons.lif`; the package itself has the empty name."""
        for path in sorted(ROOT.rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            self.paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.paths.items()}
        self.imports = {name: set(self._imported(tree)) for name, tree in self.trees.items()}
        """The files of the package that each imports, inside functions too."""

    def _imported(self, tree: ast.Module):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, (
                    f"write absolute imports (line {node.lineno}: from {'.' * node.level}{node.module})"
                )
                joined = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if self._place(name) in self.paths else node.module for name in joined]
            else:
                continue
            yield from (self._place(name) for name in names if name.split(".")[0] == "ranvier")

    def _place(self, name: str) -> str:
        return name.removeprefix("ranvier").removeprefix(".")


@pytest.fixture(scope="session")
def source() -> Source:
    return Source()
