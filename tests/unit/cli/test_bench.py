"""`ranvier bench` as a user starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def bench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ranvier.cli.main import main; main()", "bench", "neuron", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["liff"], "Did you mean 'lif'"),
        (["lif", "--peers", "nors"], "Did you mean 'norse'"),
        (["lif", "--shape", "10x10"], "Write for instance 100,64,512."),
    ],
)
def test_bad_words_exit_with_2_and_say_what_to_do(words: list[str], message: str, tmp_path: Path) -> None:
    done = bench(*words, cwd=tmp_path)
    assert done.returncode == 2 and message in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_a_table_is_printed_and_the_result_kept(tmp_path: Path) -> None:
    small = ["lif", "--shape", "6,2,8", "--rounds", "2", "--no-memory", "--device", "cpu"]
    done = bench(*small, "--peers", "loop,norse", "--save", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ranvier" in done.stdout and "loop" in done.stdout and "2 and 5 passes" in done.stdout
    path = tmp_path / "benchmarks/results/neuron_lif_cpu_6x2x8_float32.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    assert {row["who"] for row in facts["rows"]} | {one["who"] for one in facts["left out"]} >= {"loop", "norse"}


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    small = ["leaky-integrator", "--shape", "6,2,8", "--rounds", "1", "--no-memory", "--device", "cpu"]
    done = bench(*small, "--peers", "loop", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["neuron"] == "leaky-integrator" and not list(tmp_path.iterdir())
