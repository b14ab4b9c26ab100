"""`ranvier stream`: data sets, files and pipes through a saved run; the same decisions as evaluate."""

import json
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

import ranvier as library
from ranvier.cli.main import app
from ranvier.core.checks import Refusal
from ranvier.data.events import Sensor, events, frames
from ranvier.data.folder import Format
from ranvier.data.samples import Samples
from ranvier.lab.saved import SavedRun
from ranvier.lab.streaming.network import Network
from ranvier.lab.streaming.session import Session
from ranvier.lab.streaming.sources import Recording, Wanted, recordings
from ranvier.models.recordings import Bins, Standardise, spiking

R = library
SENSOR = Sensor(6, 5)


def saved(model: nn.Module, format: Format | None = None, **settings: Any) -> SavedRun:
    facts = {"recipe": "nmnist-small", "classes": ["left", "right"], "settings": settings, "status": "finished"}
    return SavedRun(Path("runs/a/b"), facts, None, model.eval(), format)  # type: ignore[arg-type]


def camera() -> SavedRun:
    torch.manual_seed(0)
    first = [R.Conv2d(2, 4, 3, padding=1, bias=False), R.LIF(threshold=0.2), nn.Flatten(2)]
    return saved(nn.Sequential(*first, R.Linear(120, 2), R.LeakyIntegrator(), R.RateDecoder()), steps=8)


def ranvier(*words: str, text: bytes | None = None) -> Result:
    done = CliRunner().invoke(app, ["stream", "RUN", *words], input=text)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def rows_of(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SavedRun:
    made = camera()
    monkeypatch.setattr("ranvier.lab.saved.load_run", lambda folder, fold: made)
    return made


def recorded(count: int = 500) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = 3_000_000 + np.sort(rng.integers(0, 80_000, count))
    return events(t, rng.integers(0, 6, count), rng.integers(0, 5, count), rng.integers(0, 2, count))


SHAPE = ("--shape", "2,5,6", "--json")


def test_a_file_says_what_the_network_says(run: SavedRun, tmp_path: Path) -> None:
    e = recorded()
    np.save(tmp_path / "a.npy", e)
    rows = rows_of(ranvier("--from", str(tmp_path / "a.npy"), *SHAPE))
    x = frames(e, SENSOR, steps=8)
    expected = run.probabilities(Samples([x], np.zeros(1, np.int64), run.classes))[0].tolist()
    last, totals = rows[-2], rows[-1]["totals"]
    assert last["last"] and list(last["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
    assert last["class"] == run.classes[int(np.argmax(expected))] and last["step"] == totals["steps"] == 8
    assert [row["step"] for row in rows[:-1]] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert 0 < rows[0]["rates"]["1"] < 1 and last["seconds"] == pytest.approx((e["t"][-1] - e["t"][0]) / 1e6)
    windows = frames(e, SENSOR, window=1000)
    expected = run.probabilities(Samples([windows], np.zeros(1, np.int64), run.classes))[0].tolist()
    rows = rows_of(ranvier("--from", str(tmp_path / "a.npy"), *SHAPE, "--dt", "1000", "--every", "10"))
    assert list(rows[-2]["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
    assert rows[-1]["totals"]["events"] == 500 and rows[0]["step"] == 10
    assert rows[-1]["totals"]["latency ms"]["p50"] > 0
    shown = ranvier("--from", str(tmp_path / "a.npy"), *SHAPE[:2])
    assert "active neurons a step" in shown.stdout and "500 events" not in shown.stderr and "latency" in shown.stdout


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_pipe_is_a_file(run: SavedRun, tmp_path: Path, kind: str) -> None:
    e = recorded()
    np.save(tmp_path / "a.npy", e)
    wanted = rows_of(ranvier("--from", str(tmp_path / "a.npy"), *SHAPE, "--dt", "1000"))
    names = ["t", "x", "y", "p"]
    lines = [json.dumps(dict(zip(names, map(int, row), strict=True))) for row in e.tolist()]
    if kind == "csv":
        lines = [",".join(names), *(",".join(map(str, map(int, row))) for row in e.tolist())]
    text = "\n".join(lines).encode()
    rows = rows_of(ranvier("--from", "-", *SHAPE, "--dt", "1000", text=text + b"\n"))
    strip = [{**row, "recording": ""} for row in wanted[:-1]]
    assert [{**row, "recording": ""} for row in rows[:-1]] == strip
    (tmp_path / f"a.{kind}").write_bytes(text)
    assert (
        rows_of(ranvier("--from", str(tmp_path / f"a.{kind}"), *SHAPE, "--dt", "1000"))[-2]["step"] == rows[-2]["step"]
    )
    cut = ranvier("--from", "-", *SHAPE, "--dt", "1000", text=text[:-3] if kind == "json" else text[:-2])
    rows = rows_of(cut)
    assert cut.exit_code == 1 and rows[-2]["totals"]["events"] == 499 and "cut off there" in rows[-1]["error"]


def test_frames_through_a_pipe(run: SavedRun) -> None:
    x = np.random.default_rng(0).integers(0, 2, (7, 2, 5, 6))
    text = "".join(json.dumps(frame.tolist()) + "\n" for frame in x).encode()
    rows = rows_of(ranvier("--from", "-", *SHAPE, text=text))
    expected = run.probabilities(Samples([x.astype(np.float32)], np.zeros(1, np.int64), run.classes))[0].tolist()
    assert list(rows[-2]["probabilities"].values()) == pytest.approx(expected, abs=1e-5)
    bad = text.replace(b"[[[0", b"[[[NaN", 1)
    done = ranvier("--from", "-", *SHAPE, text=bad)
    assert done.exit_code == 1 and "NaN or Inf" in rows_of(done)[-1]["error"]
    rows = rows_of(ranvier("--from", "-", *SHAPE, "--on-bad", "drop", text=bad + b"what\n"))
    assert rows[-1]["totals"]["dropped"] == {"not finite": 1, "unreadable": 1} and rows[-2]["step"] == 6


def test_bad_events_and_broken_files(run: SavedRun, tmp_path: Path) -> None:
    e = recorded()
    e["x"][300] = 6
    np.save(tmp_path / "a.npy", e)
    words = ("--from", str(tmp_path / "a.npy"), *SHAPE, "--dt", "1000")
    done = ranvier(*words)
    totals, error = rows_of(done)[-2:]
    assert done.exit_code == 1 and totals["totals"]["events"] == 300 and "at event 300" in error["error"]
    assert rows_of(ranvier(*words, "--on-bad", "drop"))[-1]["totals"]["dropped"] == {"outside": 1}
    assert rows_of(ranvier(*words[:4], "--json", "--on-bad", "drop"))[-1]["totals"]["dropped"] == {"outside": 1}
    raw = bytes([1, 2, 0x80, 0, 9, 3, 4, 0x00, 0x1F, 0xFF, 7])
    (tmp_path / "cut.bin").write_bytes(raw)
    done = ranvier("--from", str(tmp_path / "cut.bin"), *SHAPE, "--dt", "1000")
    rows = rows_of(done)
    assert done.exit_code == 1 and rows[-2]["totals"]["events"] == 2 and "cut.bin at byte 10" in rows[-1]["error"]
    shown = ranvier("--from", str(tmp_path / "cut.bin"), *SHAPE[:2], "--dt", "1000")
    assert shown.exit_code == 1 and "at byte 10" in shown.stderr and "2 events" in shown.stdout


def test_what_can_t_be_streamed_is_said(run: SavedRun, tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"x")
    for words, said in (
        (("--from", "nowhere"), "-, a file, or a data set"),
        (("--from", str(tmp_path / "a.mp3")), "events or lines"),
        (("--from", "-"), "microseconds per step"),
    ):
        done = ranvier(*words, *SHAPE, text=b'{"t": 1, "x": 2, "y": 3, "p": 1}\n')
        assert done.exit_code == 1 and said in rows_of(done)[-1]["error"]
    with pytest.raises(Refusal, match="--shape"):
        ranvier("--from", "-", "--shape", "2,x")
    with pytest.raises(Refusal, match="dt"):
        ranvier("--from", "-", *SHAPE, "--dt", "-3")


def test_real_time_waits(run: SavedRun) -> None:
    now, waited = [0.0], []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    wanted = Wanted(run, (2, 5, 6), Fraction(1000), "raise")
    session = Session(Network(run.model, (2, 5, 6)), wanted, speed=2.0, now=lambda: now[0], sleep=sleep)
    reports = list(session.play(Recording("a", iter([recorded()]), None, Fraction(1000))))
    assert now[0] == pytest.approx(0.040, abs=0.001) and len(waited) == len(reports) - 1
    with pytest.raises(Refusal, match="--speed"):
        list(session.play(Recording("a", iter([recorded()]))))


def test_recordings_of_one_s_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sensor = Format("events", ("left", "right"), sensor=Sensor(12, 10), shrink=2, steps=4)
    model = spiking(sensor.shape, 1, 2, 12)
    e = recorded()
    for axis in "xy":
        e[axis] *= 2
    model[0].learn([frames(recorded(), SENSOR, steps=4)])
    own = saved(model, sensor)
    np.save(tmp_path / "a.npy", e)
    session = Session(Network(own.model, sensor.shape), Wanted(own, sensor.shape, None, "raise"))
    assert session.network.front is None
    (recording,) = recordings(str(tmp_path / "a.npy"), session.wanted, BytesIO())
    last = list(session.play(recording))[-1]
    assert last.probabilities == pytest.approx(own.predict(tmp_path / "a.npy").tolist(), abs=1e-5)


def test_signals_in_bins(tmp_path: Path) -> None:
    torch.manual_seed(0)
    form = Format("signal", ("left", "right"), ("a", "b", "c"), pool=4)
    model = spiking((3,), 4, 2, 16)
    x = np.random.default_rng(0).normal(size=(42, 3)).astype(np.float32)
    model[0].learn([x])
    own = saved(model, form)
    session = Session(Network(own.model, (3,)), Wanted(own, (3,), None, "raise"))
    assert isinstance(session.network.front, nn.Sequential) and isinstance(session.network.front[1], Bins)
    assert isinstance(session.network.front[0], Standardise) and session.network.pool == 4
    chunks = iter([x[:5], x[5:6], x[6:]])
    last = list(session.play(Recording("a", chunks)))[-1]
    expected = own.probabilities(Samples([x[:40]], np.zeros(1, np.int64), own.classes))[0].tolist()
    assert last.probabilities == pytest.approx(expected, abs=1e-5) and session.totals.dropped["incomplete"] == 2


def test_the_digits_from_run_to_stream(tmp_path: Path) -> None:
    words = ["run", "digits", "--smoke", "--runs", str(tmp_path), "--quiet", "--logger", "none"]
    assert CliRunner().invoke(app, words).exit_code == 0
    folder = str(next(tmp_path.glob("digits/*/run.json")).parent)
    judged = json.loads(CliRunner().invoke(app, ["evaluate", folder, "--json"]).stdout)
    rows = [
        json.loads(r)
        for r in CliRunner().invoke(app, ["stream", folder, "--from", "digits", "--json"]).stdout.splitlines()
    ]
    assert rows[-1]["totals"]["accuracy"] == judged["accuracy"] and rows[-1]["totals"]["recordings"] == 20
    few = CliRunner().invoke(app, ["stream", folder, "--from", "digits:test", "--limit", "3", "--json"]).stdout
    assert json.loads(few.splitlines()[-1])["totals"]["recordings"] == 3
    assert CliRunner().invoke(app, ["stream", folder, "--from", "test"]).exit_code == 0
