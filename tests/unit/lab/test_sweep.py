import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

from ranvier.core.checks import NonFinite, Refusal
from ranvier.lab import sweep as module
from ranvier.lab.recipe import Session
from ranvier.lab.sweep import AGAIN, Outcome, Range, Sweep, search, space

ROOT = Path(__file__).parents[3]


def test_ranges_and_lists_get_the_types_of_the_settings() -> None:
    texts = ["lr=1e-4..1e-2", "epochs=5..20", "batch=32,64", "smoke=true,false"]
    assert space("digits", texts) == {
        "lr": Range(1e-4, 1e-2, whole=False, log=True),
        "epochs": Range(5, 20, whole=True, log=False),
        "batch": [32, 64],
        "smoke": [True, False],
    }
    assert space("digits", ["lr=0.1..0.5"]) == {"lr": Range(0.1, 0.5, whole=False, log=False)}
    assert space("digits", ["lr=0..1"]) == {"lr": Range(0.0, 1.0, whole=False, log=False)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "expected NAME=LOW..HIGH"),
        ("learning=1..2", "setting of this recipe"),
        ("lr=a..b", "expected a value of type float"),
        ("epochs=1.5..3", "expected a value of type int"),
        ("lr=2..1", "Give the smaller one first"),
        ("smoke=true..false", "Only numbers have ranges"),
    ],
)
def test_what_is_no_range_or_list_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        space("digits", [text])


def bowl(sweep: Sweep, given: Mapping[str, str], session: Session) -> Outcome:
    """Best at lr = 0.01."""
    return "complete", -abs(float(given["lr"]) - 0.01)


@pytest.fixture
def wanted() -> Sweep:
    return Sweep("digits", space("digits", ["lr=1e-4..1"]), {"smoke": "true"}, trials=12)


def test_it_finds_a_minimum_and_writes_what_it_found(
    wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "once", bowl)
    study = search(wanted, Session(Path()), tmp_path)
    assert len(study.trials) == 12 and abs(study.best_params["lr"] - 0.01) < 0.05
    facts = json.loads((tmp_path / "sweep.json").read_text())
    assert facts["judged on"] == "validation" and len(facts["trials"]) == 12 and facts["metric"] == "accuracy"
    assert facts["trials"][0]["settings"].keys() == {"lr"}


def test_the_same_study_goes_on_and_repeats_nothing(
    wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "once", bowl)
    search(replace(wanted, trials=4), Session(Path()), tmp_path)
    study = search(replace(wanted, trials=7), Session(Path()), tmp_path)
    tried = [t.params["lr"] for t in study.trials]
    assert len(tried) == 7 == len(set(tried))
    assert len(search(replace(wanted, trials=5), Session(Path()), tmp_path).trials) == 7
    for other in (replace(wanted, metric="vote"), replace(wanted, given={})):
        with pytest.raises(Refusal, match=r"as in this study.*--storage"):
            search(other, Session(Path()), tmp_path)


def test_a_killed_trial_is_marked_failed_and_tried_again(wanted: Sweep, tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from ranvier.lab import sweep
from ranvier.lab.recipe import Session
def dies(*_):
    os.kill(os.getpid(), 9)
sweep.once = dies
wanted = sweep.Sweep("digits", sweep.space("digits", ["lr=1e-4..1"]), {{"smoke": "true"}}, trials=2)
sweep.search(wanted, Session(Path()), Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "once", bowl)
        study = search(replace(wanted, trials=2), Session(Path()), tmp_path)
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[1].params == study.trials[0].params and study.trials[1].user_attrs[AGAIN] == 0
    assert study.trials[2].params != study.trials[0].params


def test_a_trial_that_breaks_down_fails_and_the_rest_goes_on(
    wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(sweep: Sweep, given: Mapping[str, str], session: Session) -> Outcome:
        return ("failed", "the loss is NaN") if float(given["lr"]) > 0.01 else bowl(sweep, given, session)

    monkeypatch.setattr(module, "once", sometimes)
    study = search(wanted, Session(Path()), tmp_path)
    failed = [t for t in study.trials if t.state.name == "FAIL"]
    assert failed and len(study.trials) == 12 and failed[0].user_attrs["why"] == "the loss is NaN"


def test_what_is_not_finite_is_a_failed_trial(wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise NonFinite("layer '3'")

    monkeypatch.setattr(module, "prepare", broken)
    assert module.once(wanted, {}, Session(tmp_path)) == ("failed", "layer '3'")


def test_a_metric_that_the_recipe_does_not_measure_is_refused(wanted: Sweep, tmp_path: Path) -> None:
    session = Session(Path(), accelerator="cpu", progress=False)
    with pytest.raises(Refusal, match="Did you mean 'accuracy'"):
        search(replace(wanted, metric="acuracy"), session, tmp_path)


def test_it_is_judged_on_the_validation_split_where_there_is_one(
    wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, asked = module.prepare, []

    def with_validation(name: str, given: Mapping[str, str]) -> Any:
        found, recipe, every = true(name, given)

        def validation(fold: int) -> Any:
            asked.append(fold)
            return recipe.data(fold)

        return found, replace(recipe, validation=validation), every

    assert Sweep("reaching", {}, {}).judged_on() == "test"
    monkeypatch.setattr(module, "prepare", with_validation)
    assert wanted.judged_on() == "validation"
    how, value = module.once(wanted, wanted.given, Session(tmp_path, accelerator="cpu", progress=False))
    assert how == "complete" and asked == [0] and isinstance(value, float)
    assert [p.name for p in (tmp_path / "weights").iterdir()] == ["network-0.safetensors"]  # nothing beside it


def test_a_hopeless_trial_is_pruned(wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def epochs(sweep: Sweep, given: Mapping[str, str], session: Session) -> Outcome:
        bad = len(seen) == 7
        seen.append(given)
        for epoch in range(1, 6):
            session.on_epoch("network", {"fold": 0, "epoch": epoch, "test accuracy": 0.1 if bad else 0.8})  # type: ignore[misc]
            if session.stop.is_set():
                return "interrupted", None
        return "complete", 0.8

    seen: list[Any] = []
    monkeypatch.setattr(module, "once", epochs)
    study = search(wanted, Session(Path()), tmp_path)
    assert [t.number for t in study.trials if t.state.name == "PRUNED"] == [7] and len(study.trials) == 12


def test_a_stopped_sweep_tries_its_trial_again(wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(sweep: Sweep, given: Mapping[str, str], session: Session) -> Outcome:
        session.stop.set()
        return "interrupted", None

    session = Session(Path())
    monkeypatch.setattr(module, "once", stopped)
    study = search(wanted, session, tmp_path)
    assert [t.state.name for t in study.trials] == ["FAIL", "WAITING"] and session.stop.is_set()
    monkeypatch.setattr(module, "once", bowl)
    study = search(replace(wanted, trials=2), Session(Path()), tmp_path)
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[0].params == study.trials[1].params


def test_trials_run_as_tasks_of_a_local_ray(wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    true = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: true(num_cpus=2, **options))
    started = time.monotonic()
    study = search(replace(wanted, trials=3), Session(Path(), accelerator="cpu", progress=False), tmp_path, ray="local")
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 3, [t.user_attrs for t in study.trials]
    folders = [tmp_path / "sweep" / t.user_attrs["folder"] for t in study.trials]
    assert all(json.loads((f / "run.json").read_text())["status"] == "finished" for f in folders)
    assert study.trials[1].datetime_start < study.trials[0].datetime_complete, "they did not run side by side"
    assert time.monotonic() - started < 120 and not ray.is_initialized()
