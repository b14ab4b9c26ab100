"""Running a recipe: a folder of its own, the fit, and everything that the report needs."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from ranvier.core.checks import Refusal
from ranvier.core.discovery import Found, find
from ranvier.core.files import write_json
from ranvier.lab.anatomy import anatomy, record
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.lock import alone
from ranvier.lab.machine import commit, hardware, versions
from ranvier.lab.recipe import Recipe, Result, Session, settings
from ranvier.lab.report import write


@dataclass(frozen=True)
class Run:
    """A finished or interrupted run: its folder, what it found and what is written in its run.json."""

    folder: Path
    result: Result
    facts: dict[str, Any]


def prepare(name: str, given: Mapping[str, str]) -> tuple[Found, Recipe, dict[str, Any]]:
    """The recipe called `name` with the settings a user gave, and all its settings.

    Raises: Refusal for an unknown recipe or setting, with the nearest names.
    """
    from inspect import signature

    found = find("recipe", name, "ranvier.recipes")
    function = found.load()
    chosen = settings(function, given)
    every = {k: chosen.get(k, p.default) for k, p in signature(function).parameters.items()}
    return found, function(**chosen), every


def run_recipe(
    name: str, given: Mapping[str, str], session: Session, root: Path, command: str, report: bool = True
) -> Run:
    """Run one recipe once in a new folder under `root`, and write its run.json, weights, activity and report.

    Raises: Refusal before any training when the recipe is unknown or the folder can't be written; NonFinite when
    training breaks down, after run.json says so.
    """
    found, recipe, every = prepare(name, given)
    session = replace(session, folder=new_folder(root / name), settings=every)
    facts: dict[str, Any] = {
        "recipe": name,
        "summary": found.summary,
        "source": recipe.source,
        "command": command,
        "settings": every,
        "seed": session.seed,
        "precision": session.precision,
        "accelerator": session.accelerator,
        "devices": session.devices,
        "loggers": list(session.loggers),
        "started": _now(),
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    return carry_out(recipe, session, facts, report)


def carry_out(recipe: Recipe, session: Session, facts: dict[str, Any], report: bool = True) -> Run:
    """Fit a recipe in the session's folder, which no other process works in meanwhile, and write what it found."""
    started, clock = _now(), perf_counter()
    with alone(session.folder):
        sittings = [*facts.get("sittings", []), {"started": started}]
        facts = {**facts, "status": "running", "sittings": sittings}
        write_json(session.folder / "run.json", facts)
        try:
            with stoppable(session):
                result = recipe.fit(recipe, session)
        except BaseException as error:
            sittings[-1]["seconds"] = perf_counter() - clock
            text = f"{type(error).__name__}: {error}"
            with suppress(OSError):  # a full disk: what went wrong is the error itself
                write_json(session.folder / "run.json", {**facts, "status": "failed", "error": text})
            raise
        facts |= {
            "status": "interrupted" if result.interrupted else "finished",
            "finished": _now(),
            "metrics": result.metrics,
            "claims": judged(recipe, result.metrics),
            "curves": result.curves,
            "classes": list(result.classes),
            "confusion": result.confusion,
            "waiting for data": _waiting(result),
        }
        if report and result.model is not None and result.examples is not None:
            seed_all(session.seed)  # what is shown of a network that draws is that of the run, resumed or not
            facts |= anatomy(result.model, result.examples.batch()).entries()
            facts["examples"] = record(result.model, result.examples, session.folder / "activity.safetensors")
        sittings[-1]["seconds"] = perf_counter() - clock
        facts["seconds"] = {**result.seconds, "total": sum(s["seconds"] for s in sittings)}
        write_json(session.folder / "run.json", facts)
        if report:
            write(session.folder)
    return Run(session.folder, result, facts)


def _waiting(result: Result) -> dict[str, float]:
    """Seconds of training in which data were waited for, and their share."""
    waiting, busy = result.waiting.get("waiting", 0.0), result.waiting.get("busy", 0.0)
    return {"seconds": waiting, "share": waiting / busy if busy else 0.0}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def judged(recipe: Recipe, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each claim with what was measured and whether it held; a claim whose metrics are missing is not judged."""
    rows = []
    for claim in recipe.claims:
        row: dict[str, Any] = {
            "claim": str(claim),
            "metric": claim.metric,
            "bound": claim.bound,
            "origin": claim.origin,
        }
        if claim.metric in metrics and (claim.beside is None or claim.beside in metrics):
            row["measured"], row["held"] = claim.check(metrics)
        rows.append(row)
    return rows


def new_folder(parent: Path) -> Path:
    """A folder of this moment's name under `parent`, made and tried for writing; an existing one is never used.

    Raises: Refusal when it can't be written.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for count in range(1000):
            folder = parent / (f"{stamp}_{count}" if count else stamp)
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            (folder / "run.json").write_text("{}")
            return folder
    except OSError as error:
        raise Refusal(
            f"run folder {parent}",
            expected="a place that can be written",
            got=error.strerror or str(error),
            do="Give another with --runs FOLDER, or free its disk.",
        ) from None
    raise Refusal(f"run folder {parent}", expected="a free name", got=f"1000 of {stamp}", do="Wait a second.")


@contextmanager
def stoppable(session: Session) -> Iterator[None]:
    """While inside, the first Ctrl-C or SIGTERM asks the session to stop after the current batch; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals; elsewhere whoever holds the session sets its stop
        return

    def ask(signum: int, frame: object) -> None:
        if session.stop.is_set():
            raise KeyboardInterrupt
        session.stop.set()

    # a cluster that wants its machine back sends SIGTERM
    before = {signum: signal.signal(signum, ask) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
