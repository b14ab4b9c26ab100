"""The whole way of one's own data: run, predict, evaluate; on real recordings where RANVIER_DATA has them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from typer.testing import CliRunner, Result

from ranvier.cli.main import app
from ranvier.core.checks import Refusal
from ranvier.data.sets.nmnist_small import NMNISTSmall
from ranvier.data.sets.smartwatch import Smartwatch
from ranvier.data.sets.spoken_digits import SpokenDigits

REAL = bool(os.environ.get("RANVIER_DATA"))


def ranvier(*words: str, text: str | None = None) -> Result:
    done = CliRunner().invoke(app, list(words), input=text)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def trained(data: Path, runs: Path, *words: str) -> Path:
    done = ranvier("run", "classify", "--data", str(data), "--runs", str(runs), "--quiet", "--logger", "none", *words)
    assert done.exit_code == 0, done.output
    return next(path.parent for path in runs.glob("classify/*/format.json"))


def sounds(root: Path, count: int) -> None:
    """Spoken digits, or two vowels of several pitches where these are not there."""
    if REAL:
        digits = SpokenDigits().load("train")
        chosen = [np.flatnonzero(digits.y == k)[:: 270 // count][:count] for k in (0, 1)]
        recordings = [(str(k), digits.x[i][:, 0]) for k, mine in zip((0, 1), chosen, strict=True) for i in mine]
    else:
        rng, t, recordings = np.random.default_rng(0), np.arange(3200) / 8000, []
        for name, peak in (("0", 500.0), ("1", 1500.0)):
            for pitch in rng.uniform(90, 250, count):
                tones = pitch * np.arange(1, 12)
                loud = np.exp(-(((tones - peak) / 300) ** 2))
                voice = (loud * np.sin(2 * np.pi * tones * t[:, None])).sum(1) * rng.uniform(0.05, 0.2)
                recordings.append((name, voice + 0.01 * rng.normal(size=len(t))))
    for i, (name, x) in enumerate(recordings):
        (root / name).mkdir(parents=True, exist_ok=True)
        wavfile.write(root / name / f"{i}.wav", 8000, (32767 * x).astype(np.int16))


def watch(root: Path) -> None:
    data = Smartwatch().load("test0")
    for i in np.flatnonzero(np.isin(data.y, [0, 3, 6])):
        file = root / data.classes[data.y[i]] / f"{i}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = np.column_stack([np.arange(len(data.x[i])) / 50, data.x[i]])
        np.savetxt(file, table, delimiter=",", header="time," + ",".join(data.channels), comments="", fmt="%.5g")


def test_sounds_from_run_to_predict_and_evaluate(tmp_path: Path) -> None:
    sounds(tmp_path / "data", 20)
    run = trained(tmp_path / "data", tmp_path / "runs", "--epochs", "6", "--set", "width=32")
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    assert metrics["accuracy"] >= 0.8
    assert {"GRU of equal size: accuracy", "logistic regression: accuracy"} <= metrics.keys()

    judged = json.loads(ranvier("evaluate", str(run), "--json").stdout)
    assert judged["accuracy"] == metrics["accuracy"] and judged["trained on"] == 0
    assert np.sum(judged["confusion"]) == judged["recordings"] == 8
    whole = json.loads(ranvier("evaluate", str(run), str(tmp_path / "data"), "--json").stdout)
    assert whole["recordings"] == 40 and whole["trained on"] == 32
    assert whole["accuracy on the others"] == metrics["accuracy"]
    shown = ranvier("evaluate", str(run), str(tmp_path / "data"))
    assert "trained on 32 of them" in shown.stdout and "as 1" in shown.stdout

    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    files = [*map(str, sorted((tmp_path / "data" / "1").iterdir())), str(tmp_path / "bad.wav")]
    done = ranvier("predict", str(run), "-", "--json", text="\n".join(files))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1 and [row["file"] for row in rows] == files
    assert "bad.wav: expected a wav file" in rows[-1]["error"]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5) for row in rows[:-1])
    assert np.mean([row["class"] == "1" for row in rows[:-1]]) >= 0.8

    done = ranvier("predict", str(run), *files[-2:])
    assert done.exit_code == 1 and files[-2] in done.stdout and "bad.wav: expected" in done.stderr
    assert ranvier("predict", str(run), files[0]).exit_code == 0


def test_a_smartwatch_as_csv(tmp_path: Path) -> None:
    watch(tmp_path / "data")
    run = trained(tmp_path / "data", tmp_path / "runs", "--epochs", "5", "--set", "width=32")
    judged = json.loads(ranvier("evaluate", str(run), str(tmp_path / "data"), "--json").stdout)
    assert judged["accuracy"] >= 0.75 and judged["classes"] == ["IR", "PEN", "ROW"]


@pytest.mark.skipif(not REAL, reason="N-MNIST is in no package")
def test_events_of_a_camera(tmp_path: Path) -> None:
    data = NMNISTSmall()
    y = data.load("train").y
    recordings = data.events("train")
    for k in (0, 1):
        (tmp_path / "data" / str(k)).mkdir(parents=True)
        for i in np.flatnonzero(y == k)[:12]:
            e = recordings[int(i)]
            raw = np.column_stack([e["x"], e["y"], e["p"] * 128 + (e["t"] >> 16), e["t"] >> 8 & 255, e["t"] & 255])
            (tmp_path / "data" / str(k) / f"{i}.bin").write_bytes(raw.astype(np.uint8).tobytes())
    run = trained(tmp_path / "data", tmp_path / "runs", "--smoke")
    judged = json.loads(ranvier("evaluate", str(run), str(tmp_path / "data"), "--json").stdout)
    assert judged["accuracy"] >= 0.8
    assert json.loads((run / "format.json").read_text())["sensor"] == {"width": 34, "height": 34, "polarities": 2}


def test_without_a_folder_it_is_said_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="ranvier run classify --data FOLDER"):
        ranvier("run", "classify", "--runs", str(tmp_path))
    assert "width = 96" in ranvier("run", "classify", "--settings").stdout
    with pytest.raises(Refusal, match=r"no run\.json there"):
        ranvier("predict", str(tmp_path), "a.wav")
