"""`ranvier run --resume` and `ranvier verify --resume` after SIGKILL, as a user does it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
RANVIER = [sys.executable, "-c", "from ranvier.cli.main import main; main()"]


def ranvier(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RANVIER, *words], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, timeout=120)


def test_a_killed_run_is_resumed_in_its_folder(tmp_path: Path) -> None:
    words = ["run", "digits", "--epochs", "2", "--quiet", "--seed", "2"]
    process = subprocess.Popen([*RANVIER, *words, "--checkpoint-every", "0"], cwd=tmp_path, env=ENVIRONMENT)
    try:
        until = time.monotonic() + 90
        while not list(tmp_path.glob("runs/digits/*/checkpoints/*.safetensors")) and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    (folder,) = tmp_path.glob("runs/digits/*")
    assert json.loads((folder / "run.json").read_text())["status"] == "running"

    other = ranvier("run", "digits", "--resume", "--set", "lr=1", cwd=tmp_path)
    assert other.returncode == 2 and "expected lr = 0.004" in " ".join(other.stderr.split())
    wrong = ranvier("run", "digits", "--resume", "nowhere", cwd=tmp_path)
    assert wrong.returncode == 2 and "no run.json there" in wrong.stderr

    done = ranvier("run", "digits", "--resume", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [*tmp_path.glob("runs/digits/*")] == [folder]
    facts = json.loads((folder / "run.json").read_text())
    assert facts["status"] == "finished" and facts["seed"] == 2 and len(facts["curves"]) == 2
    assert len(facts["sittings"]) == 2 and facts["resumed"][0]["command"] == "ranvier run digits --resume --quiet"
    assert list(folder.glob("logs/network-0/sitting-2/metrics.csv"))

    again = ranvier("run", "digits", "--resume", str(folder), cwd=tmp_path)
    assert again.returncode == 0 and "This run is finished" in again.stdout


def test_a_killed_verify_keeps_the_seeds_that_are_done(tmp_path: Path) -> None:
    words = ["verify", "digits", "--set", "epochs=1", "--quiet"]
    early = ranvier(*words, "--resume", cwd=tmp_path)
    assert early.returncode == 2 and "Start one without --resume" in " ".join(early.stderr.split())
    assert not list(tmp_path.iterdir())
    process = subprocess.Popen([*RANVIER, *words], cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 90
        # in the second seed's network
        while len(list(tmp_path.glob("runs/digits/*/curves/*"))) < 3 and time.monotonic() < until:
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    first, second = sorted(tmp_path.glob("runs/digits/*/"))
    before = (first / "run.json").read_bytes()
    assert json.loads(before)["status"] == "finished"

    done = ranvier(*words, "--resume", "--json", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert f"seed 0: goes on with runs/digits/{first.name}" in done.stderr and "seed 1: goes on" in done.stderr
    (facts,) = json.loads(done.stdout)
    assert facts["seeds"] == [0, 1, 2] and "other versions" not in facts
    assert (first / "run.json").read_bytes() == before
    runs = [json.loads((folder / "run.json").read_text()) for folder in sorted(tmp_path.glob("runs/digits/*/"))]
    assert [run["seed"] for run in runs] == [0, 1, 2] and all(run["status"] == "finished" for run in runs)
    assert len(runs[1]["resumed"]) == 1 and runs[1]["command"] == "ranvier verify digits --set epochs=1 --quiet"
    assert facts["each"]["accuracy"] == [run["metrics"]["accuracy"] for run in runs]
    assert second.name in {folder.name for folder in tmp_path.glob("runs/digits/*/")}

    again = ranvier(*words, "--resume", cwd=tmp_path)
    assert again.returncode == done.returncode and "mean of 3 seed(s)" in again.stdout
    assert len(list(tmp_path.glob("runs/digits/*/"))) == 3
