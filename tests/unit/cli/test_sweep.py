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

from ranvier.cli.options import LatestByDefault, use_threads
from ranvier.core.checks import Refusal

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
    assert "accuracy (test samples)" in done.stdout and "the best of 2 trials" in done.stdout
    assert "on the test samples of digits" in done.stderr and "trial 1: complete" in done.stderr
    facts = json.loads((tmp_path / "runs" / "digits" / "sweep.json").read_text())
    assert len(facts["trials"]) == 2 and {t["settings"]["batch"] for t in facts["trials"]} <= {5, 10}
    assert (tmp_path / "runs" / "digits" / "sweep.db").is_file()


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


def test_threads_are_set_and_auto_takes_the_faster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ranvier.lab import threads

    before = torch.get_num_threads()
    try:
        use_threads("2", "digits", {})
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(threads, "fastest", lambda recipe: (1, {1: 0.002, 8: 0.004}))
        use_threads("auto", "digits", {})
        assert torch.get_num_threads() == 1
        assert (
            "Threads: 1 (a training step takes 2.0 ms with 1 thread, 4.0 ms with 8 threads)" in capsys.readouterr().err
        )
    finally:
        torch.set_num_threads(before)
    for text in ("0", "-1", "many", "1.5"):
        with pytest.raises(Refusal, match="expected a number or auto"):
            use_threads(text, "digits", {})


def test_trying_threads_leaves_threads_and_random_numbers_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    from ranvier.lab.run import prepare
    from ranvier.lab.threads import fastest

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    before, state = torch.get_num_threads(), torch.get_rng_state()
    count, seconds = fastest(prepare("digits", {"smoke": "true"})[1])
    assert count == 1 and seconds.keys() == {1} and seconds[1] > 0
    assert torch.get_num_threads() == before and torch.equal(torch.get_rng_state(), state)
