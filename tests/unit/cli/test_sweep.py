"""`ranvier sweep` as a user starts it, and the options that typer alone can't read."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import torch
import typer
from typer.testing import CliRunner

from ranvier.cli.options import LatestByDefault, threads_of, use_threads
from ranvier.core.checks import Refusal
from ranvier.lab.recipe import Session

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
RANVIER = [sys.executable, "-c", "from ranvier.cli.main import main; main()"]


def ranvier(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RANVIER, *words], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120)


def test_a_sweep_prints_the_best_trials_and_what_they_are_judged_on(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = ["sweep", "digits", "--smoke", "--over", "lr=1e-3..1e-2", "--over", "batch=5,10"]
    done = ranvier(*words, "--trials", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy (validation samples)" in done.stdout and "the best of 2 trials" in done.stdout
    assert "trial 1: complete" in done.stderr and "flatters" not in done.stderr
    facts = json.loads((tmp_path / "runs" / "digits" / "sweep.json").read_text())
    assert len(facts["trials"]) == 2 and {t["settings"]["batch"] for t in facts["trials"]} <= {5, 10}
    assert (tmp_path / "runs" / "digits" / "sweep.db").is_file()


def test_a_sweep_of_a_recipe_without_validation_says_that_its_best_value_flatters(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = ["sweep", "classify", "--smoke", "--over", "lr=1e-3..1e-2", "--trials", "1", "--set", "epochs=1"]
    done = ranvier(*words, cwd=tmp_path)
    assert "on the test samples of classify" in done.stderr and "flatters" in done.stderr
    assert done.returncode == 0 and "accuracy (test samples)" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "digits", "--over", "rate=1..2"], "setting of this recipe"),
        (["sweep", "digit", "--over", "lr=1..2"], "Did you mean 'digits'"),
        (["sweep", "digits"], "--over"),
        (["run", "digits", "--logger", "tensorbord"], "Did you mean 'tensorboard'?"),
        (["run", "digits", "--threads", "many"], "expected a number or auto"),
        (["run", "digits", "--resume"], "Start one without --resume"),
    ],
)
def test_bad_words_exit_with_2_and_say_what_to_do(words: list[str], message: str, tmp_path: Path) -> None:
    done = ranvier(*words, cwd=tmp_path)
    assert done.returncode == 2 and message in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (["x"], None),
        (["x", "--resume"], "latest"),
        (["x", "--resume", "--quiet"], "latest"),
        (["x", "--resume", "there", "--quiet"], "there"),
        (["x", "--resume=there"], "there"),
        (["--resume", "latest", "x"], "latest"),
    ],
)
def test_resume_without_a_value_means_the_latest(words: list[str], which: str | None) -> None:
    app = typer.Typer()
    seen = []

    @app.command(cls=LatestByDefault)
    def run(recipe: str, resume: str | None = None, quiet: Annotated[bool, typer.Option("--quiet")] = False) -> None:
        seen.append((recipe, resume))

    assert CliRunner().invoke(app, words).exit_code == 0 and seen == [("x", which)]


def test_threads_are_set_and_auto_takes_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ranvier.lab import threads

    session = Session(Path(), accelerator="cpu")
    before = torch.get_num_threads()
    try:
        use_threads(2, "digits", {}, session)
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(threads, "choose", lambda *_: threads.Choice(3, {1: 0.004, 3: 0.002}))
        use_threads(None, "digits", {}, session)
        assert torch.get_num_threads() == 3
        assert (
            "Threads: 3 (a training batch takes 4.0 ms with 1 thread, 2.0 ms with 3 threads)" in capsys.readouterr().err
        )
        monkeypatch.setattr(threads, "choose", lambda *_: None)
        use_threads(None, "digits", {}, session)
        assert torch.get_num_threads() == 1 and not capsys.readouterr().err
    finally:
        torch.set_num_threads(before)


def test_what_is_no_number_of_threads_is_refused() -> None:
    assert threads_of("auto") is None and threads_of("2") == 2
    for text in ("0", "-1", "many", "1.5"):
        with pytest.raises(Refusal, match="expected a number or auto"):
            threads_of(text)
