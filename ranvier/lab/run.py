"""Running a recipe, and going on with a run: a folder of its own, the fit, and everything that the report needs."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from ranvier.core.checks import Refusal
from ranvier.core.discovery import Found, find
from ranvier.core.files import write_json
from ranvier.lab.anatomy import anatomy, record
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.lock import alone
from ranvier.lab.machine import commit, hardware, versions
from ranvier.lab.recipe import Recipe, Result, Session, settings
from ranvier.lab.report import write
from ranvier.lab.resume import finished, forget, left, read


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

    With `session.resume`, what the last verify has left of this seed is read when it is finished, and gone on with else.

    Raises: Refusal before any training, with no folder left, when the recipe is unknown, its data can't be read or the
    folder can't be written; NonFinite when training breaks down, after run.json says so.
    """
    found, recipe, every = prepare(name, given)
    earlier = left(root / name, every, session).get(session.seed) if session.resume else None
    if earlier is not None and finished(earlier):
        facts = read(earlier)
        return Run(earlier, Result(facts["metrics"], facts["curves"], seconds=facts["seconds"]), facts)
    if earlier is not None:
        return resume(earlier, given, session, {}, command)
    session = replace(session, folder=new_folder(root / name), settings=every, resume=False)
    facts = {
        "recipe": name,
        "summary": found.summary,
        "source": recipe.source,
        "command": command,
        "settings": every,
        "seed": session.seed,
        "precision": session.precision,
        "accelerator": session.accelerator,
        "devices": session.devices,
        "threads": torch.get_num_threads(),
        "loggers": list(session.loggers),
        "started": _now(),
        "hardware": hardware(),
        "versions": versions(),
        "commit": commit(),
    }
    try:
        return carry_out(recipe, session, facts, report)
    except Refusal:
        _remove_unused(session.folder)
        raise


def resume(
    folder: Path,
    given: Mapping[str, str],
    session: Session,
    fixed: Mapping[str, Any],
    command: str,
    loggers: tuple[str, ...] | None = None,
) -> Run:
    """Go on with the run in `folder` with its recipe, settings and seed; `given` and `fixed` may repeat them.

    `fixed` is what a user said of seed, precision and threads, None where nothing was said; `loggers` None is those of
    the run. Folds and networks that are finished are not trained again, and the current one continues from its last
    checkpoint. The outcome is that of a run that was not interrupted, to the bit on one device of the same kind with
    the same versions; for that CPU threads are as many as when it began.

    Raises: Refusal for settings that contradict those of the run.
    """
    facts = read(folder)
    function = find("recipe", facts["recipe"], "ranvier.recipes").load()
    wanted = {**settings(function, given), **{k: v for k, v in fixed.items() if v is not None}}
    threads = facts.get("threads", int(facts["hardware"]["threads"]))
    theirs = {**facts["settings"], **{k: facts[k] for k in ("seed", "precision")}, "threads": threads}
    for name, value in wanted.items():
        if theirs.get(name) != value:
            raise Refusal(
                f"--resume with {name} = {value}",
                expected=f"{name} = {theirs.get(name)}, as in {folder / 'run.json'}",
                got="another value",
                do="Leave it out, or start a new run without --resume.",
            )
    session = replace(
        session,
        folder=folder,
        seed=facts["seed"],
        precision=facts["precision"],
        accelerator=_unless_auto(session.accelerator, facts["accelerator"]),
        devices=_unless_auto(session.devices, facts["devices"]),
        settings=facts["settings"],
        loggers=tuple(facts.get("loggers", ())) if loggers is None else loggers,
        resume=True,
    )
    _close(facts, folder)
    now = {"command": command, "commit": commit(), "versions": versions()}
    facts["resumed"] = [
        *facts.get("resumed", []),
        {"at": datetime.now().astimezone().isoformat(timespec="seconds"), **now},
    ]
    facts.pop("error", None)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        return carry_out(_again(function, facts), session, facts)
    finally:
        torch.set_num_threads(before)


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


def _remove_unused(folder: Path) -> None:
    """Remove a run's folder in which nothing was done, and those above it that are empty then."""
    if any(path.name not in ("run.json", ".lock") for path in folder.iterdir()):
        return
    shutil.rmtree(folder)
    forget(folder.parent)
    with suppress(OSError):  # not empty
        folder.parent.rmdir()
        folder.parent.parent.rmdir()


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


def _again(function: Callable[..., Recipe], facts: Mapping[str, Any]) -> Recipe:
    try:
        return function(**facts["settings"])
    except TypeError as error:
        raise Refusal(
            f"recipe {facts['recipe']}",
            expected="the settings of the run",
            got=f"a recipe that has changed since ({error})",
            do=f"Check out commit {facts['commit']}, or start a new run.",
        ) from None


def _unless_auto(asked: Any, theirs: Any) -> Any:
    return theirs if asked == "auto" else asked


def _close(facts: dict[str, Any], folder: Path) -> None:
    """Give a killed sitting its time: until the last file that it wrote."""
    for sitting in facts.get("sittings", [])[-1:]:
        if "seconds" not in sitting:
            began = datetime.fromisoformat(sitting["started"]).timestamp()
            last = max(path.stat().st_mtime for path in folder.rglob("*") if path.name != ".lock")
            sitting["seconds"] = max(last - began, 0.0)
