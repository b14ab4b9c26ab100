"""The documentation does what it says: its code runs and prints what stands below it, its drawings are up to date, its site builds."""

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from torch import nn

import ranvier
from ranvier.lab import api_page
from ranvier.lab.surrogate_page import FOLDER, RENEW, draw, kinds

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CODE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
PAGES = sorted(path for path in DOCS.rglob("*.md") if CODE.search(path.read_text(encoding="utf-8")))
SITE = ("mkdocs", "material", "mkdocstrings", "latex2mathml")
PEERS = ("spikingjelly", "snntorch", "norse")


def absent(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_code_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text(encoding="utf-8")
    missing = absent(tuple(peer for peer in PEERS if re.search(rf"^(import|from) {peer}", text, re.MULTILINE)))
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed: docs/benchmarks.md says how")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs"}
    with patch.dict(os.environ, RANVIER_CACHE=str(tmp_path / "cache")):
        for code, expected in CODE.findall(text):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, str(page), "exec"), names)
            assert printed.getvalue().strip() == expected.strip(), code


@pytest.mark.skipif(bool(absent(("griffe",))), reason="griffe is not installed (the extra docs)")
def test_docstrings_become_markdown() -> None:
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.markdown("A sum, a < b * c[t] as `d[t]`.\n\nInput: x [T]. Output: y.\n\n>>> 1 + 1\n2")
    assert text.split("\n\n") == [
        r"A sum, a \< b \* c\[t] as `d[t]`.",
        r"**Input:** x \[T].",
        "**Output:** y.",
        "```pycon\n>>> 1 + 1\n2\n```",
    ]


def test_what_adding_a_thing_shows_has_code_that_runs() -> None:
    assert set((DOCS / "adding").glob("*.md")) <= set(PAGES)


@pytest.mark.parametrize("name", kinds())
def test_every_surrogate_has_its_drawing(name: str) -> None:
    kept = (DOCS / FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert kept == draw(kinds()[name]()), f"Run: {RENEW}"
    assert f"surrogates/{name}.svg" in (DOCS / FOLDER.with_suffix(".md")).read_text(encoding="utf-8")


def test_no_drawing_is_left_of_a_surrogate_that_is_gone() -> None:
    assert {path.stem for path in (DOCS / FOLDER).glob("*.svg")} == kinds().keys()


def test_the_api_page_is_up_to_date() -> None:
    assert (DOCS / "api.md").read_text(encoding="utf-8") == api_page.page(), f"Run: {api_page.RENEW}"
    assert "More" not in api_page.grouped(), "give the new room its heading in ranvier/lab/api_page.py"


def test_the_page_of_coding_names_every_encoder_and_decoder() -> None:
    text = (DOCS / "concepts" / "coding.md").read_text(encoding="utf-8")
    coding = [n for n in ranvier.__all__ if vars(ranvier)[n].__module__.startswith("ranvier.nn.coding.")]
    assert not [name for name in coding if issubclass(vars(ranvier)[name], nn.Module) and f"`{name}(" not in text]


@pytest.mark.skipif(bool(absent(SITE)), reason=f"not installed: {', '.join(absent(SITE))} (the extra docs)")
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    fetched = r"""(?:<script[^>]* src|<link[^>]* rel="(?:stylesheet|preconnect|icon)"[^>]* href|<img[^>]* src)=["']?(https?:)?//"""
    assert not [path.name for path, text in pages.items() if re.search(fetched, text)]
    formulas = [path.name for path, text in pages.items() if "arithmatex" in text]
    assert not formulas and "<math" in pages[tmp_path / "neurons.html"], "a formula that did not become MathML"
    raw = [path.name for path, text in pages.items() if re.search(r"&gt;&gt;&gt; |::: ranvier", re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL))]  # fmt: skip
    assert not raw, "a docstring's example that is no code block"
