"""`ranvier export`: from a run to a C file that passes its test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ranvier.cli.main import app
from ranvier.core.checks import Refusal
from ranvier.deploy.c.cortex_m import absent

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def ranvier(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not os.environ.get("RANVIER_DATA"):
        pytest.importorskip("seglearn", reason="the smartwatch recordings come with seglearn")
    runs = tmp_path_factory.mktemp("runs")
    ranvier("run", "smartwatch", "--smoke", "--runs", str(runs), "--quiet", "--logger", "none")
    return next(path.parent for path in runs.glob("smartwatch/*/run.json"))


@pytest.mark.parametrize("numbers", ["float32", "int16", "int8"])
def test_the_smartwatch_decides_in_c_as_in_python(run: Path, numbers: str, tmp_path: Path) -> None:
    """Every test window of the smoke size: outputs of each step and the decision."""
    file = tmp_path / "watch.c"
    printed = ranvier("export", str(run), str(file), "--numbers", numbers, "--test", "1000")
    assert "watch_decide" in printed and "-DWATCH_TEST" in printed
    words = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-DWATCH_TEST", str(file)]
    subprocess.run([*words, "-lm", "-o", str(tmp_path / "watch")], check=True)
    done = subprocess.run([str(tmp_path / "watch")], capture_output=True, text=True)
    assert done.returncode == 0 and " 0 differ" in done.stdout, done.stdout


@pytest.mark.skipif(bool(absent()), reason=f"not installed: {', '.join(absent())}")
def test_it_is_measured_on_an_emulated_microcontroller(run: Path, tmp_path: Path) -> None:
    words = ["--numbers", "int8", "--test", "1", "--measure", "cortex-m4"]
    printed = ranvier("export", str(run), str(tmp_path / "watch.c"), *words)
    assert "cortex-m4: flash" in printed and "test passed" in printed


def test_measuring_needs_a_test(run: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="--test 0"):
        ranvier("export", str(run), str(tmp_path / "a.c"), "--test", "0", "--measure", "cortex-m4")
