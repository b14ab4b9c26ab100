"""The command as a user starts it: a process of its own, with its exit status."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
RANVIER = [sys.executable, "-c", "from ranvier.cli.main import main; main()"]


def ranvier(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RANVIER, *words], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120)


def test_list_names_everything_in_one_line_each() -> None:
    done = ranvier("list")
    assert done.returncode == 0
    lines = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"recipes", "smartwatch", "digits", "neurons", "lif", "data"} <= lines
    assert set(json.loads(ranvier("list", "neurons", "--json").stdout)) == {"neurons"}


@pytest.mark.parametrize("words", [["list"], ["--help"], ["run", "--help"]])
def test_listing_and_help_import_neither_lightning_nor_numba(words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ['ranvier', *{words!r}]
from ranvier.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
assert not {{'lightning', 'numba', 'plotly', 'sklearn', 'pandas'}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT, capture_output=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "smartwach"], "Did you mean 'smartwatch'?"),
        (["run", "digits", "--set", "epoch=3"], "Did you mean 'epochs'?"),
        (["run", "digits", "--set", "epochs=many"], "expected a value of type int; got 'many'"),
        (["run", "digits", "--set", "epochs"], "expected NAME=VALUE"),
        (["run", "digits", "--epoch", "3"], "--epochs"),
        (["run", "digits", "--devices", "two"], "expected a number or auto"),
        (["list", "neuron"], "Did you mean 'neurons'?"),
        (["verify"], "expected recipes or --all"),
        (["verify", "digits", "--smoke", "--save"], "leave out one of them"),
        (["report", "nowhere"], "nowhere"),
    ],
)
def test_bad_words_exit_with_2_and_say_what_to_do(words: list[str], message: str, tmp_path: Path) -> None:
    done = ranvier(*words, cwd=tmp_path)
    assert done.returncode == 2 and message in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_a_run_folder_that_cannot_be_written_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    started = time.monotonic()
    done = ranvier("run", "digits", cwd=tmp_path)
    assert (
        done.returncode == 2
        and "expected a place that can be written" in done.stderr
        and "--runs FOLDER" in done.stderr
    )
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("words", [["run", "classify", "--data", "nowhere"], ["verify", "digits"]])
def test_data_that_cannot_be_read_leave_no_run_behind(words: list[str], tmp_path: Path) -> None:
    code = "from ranvier.data.origin import File\nfrom ranvier.core.checks import Refusal\n"
    code += "def find(self): raise Refusal('digits', expected='the file', got='none', do='Get it.')\n"
    code += "File.find = find\nfrom ranvier.cli.main import main; main()"
    program = [sys.executable, "-c", code, *words]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_run_prints_a_table_and_leaves_a_report_and_report_makes_it_anew(tmp_path: Path) -> None:
    done = ranvier("run", "digits", "--smoke", "--seed", "3", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "spiking network" in done.stdout and "logistic regression" in done.stdout
    (folder,) = (tmp_path / "runs" / "digits").iterdir()
    page = folder / "report.html"
    assert f"runs/digits/{folder.name}/report.html" in done.stdout
    facts = json.loads((folder / "run.json").read_text())
    assert facts["command"] == "ranvier run digits --smoke --seed 3 --quiet" and facts["seed"] == 3
    before = page.read_text(encoding="utf-8")
    page.unlink()
    assert ranvier("report", str(folder), cwd=tmp_path).returncode == 0
    assert len(page.read_text(encoding="utf-8")) == len(before)


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    from ranvier.lab.run import new_folder

    assert len({new_folder(tmp_path) for _ in range(5)}) == 5


def test_verify_exits_with_0_when_held_and_1_when_not(tmp_path: Path) -> None:
    held = ranvier("verify", "digits", "--smoke", "--json", cwd=tmp_path)
    assert held.returncode == 0, held.stderr
    (facts,) = json.loads(held.stdout)
    assert facts["recipe"] == "digits" and all(row["held"] for row in facts["claims"])
    missed = ranvier("verify", "digits", "--smoke", "--set", "lr=1e-12", "--quiet", cwd=tmp_path)
    assert missed.returncode == 1 and "no" in missed.stdout


def test_settings_are_shown(tmp_path: Path) -> None:
    done = ranvier("run", "digits", "--settings", "--epochs", "7", cwd=tmp_path)
    assert "epochs = 7" in done.stdout and not list(tmp_path.iterdir())


def test_ctrl_c_keeps_weights_and_exits_with_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*RANVIER, "run", "digits", "--epochs", "500", "--quiet"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 90
        while not list(tmp_path.glob("runs/digits/*/curves/*")) and time.monotonic() < until:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Interrupted" in out
    (folder,) = tmp_path.glob("runs/digits/*")
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert (folder / "weights" / "network-0.safetensors").exists() and (folder / "report.html").exists()


def test_breaking_down_exits_with_1_naming_the_layer(tmp_path: Path) -> None:
    done = ranvier("run", "digits", "--set", "lr=1e30", "--quiet", cwd=tmp_path)
    assert done.returncode == 1 and "layer '" in done.stderr and "Traceback" not in done.stderr
    (folder,) = tmp_path.glob("runs/digits/*")
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
