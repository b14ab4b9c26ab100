"""Going on with a run that was interrupted or killed, in its own folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ranvier.core.checks import Refusal
from ranvier.core.discovery import find
from ranvier.lab.machine import commit, versions
from ranvier.lab.recipe import Recipe, Session, settings
from ranvier.lab.run import Run, carry_out


def locate(name: str, which: str, root: Path) -> Path:
    """The folder of the run of recipe `name` that `which` means: a folder, one of that name under `root`, or "latest".

    Raises: Refusal when there is none, and for a run of another recipe.
    """
    if which == "latest":
        runs = sorted(path.parent for path in (root / name).glob("*/run.json") if path.stat().st_size > 2)
        if not runs:
            raise Refusal(
                f"--resume of {name}",
                expected=f"a run under {root / name}",
                got="none",
                do="Start one without --resume.",
            )
        return max(runs, key=lambda folder: _facts(folder)["started"])
    for folder in (Path(which), root / name / which):
        if (folder / "run.json").is_file():
            theirs = _facts(folder).get("recipe")
            if theirs != name:
                raise Refusal(
                    f"--resume {which}",
                    expected=f"a run of {name}",
                    got=f"one of {theirs}",
                    do=f"Write: ranvier run {theirs} --resume {which}",
                )
            return folder
    raise Refusal(
        f"--resume {which}",
        expected="the folder of a run, or latest",
        got="no run.json there",
        do=f"Look under {root / name}.",
    )


def finished(folder: Path) -> bool:
    """Whether the run there reached its end, so that nothing is left to resume."""
    return bool(_facts(folder)["status"] == "finished" and (folder / "report.html").exists())


def resume(
    folder: Path,
    given: Mapping[str, str],
    session: Session,
    fixed: Mapping[str, Any],
    command: str,
    loggers: tuple[str, ...] | None = None,
) -> Run:
    """Go on with the run in `folder` with its recipe, settings and seed; `given` and `fixed` may repeat them.

    `fixed` is what a user said of seed and precision, None where nothing was said; `loggers` None is those of the run. Folds and networks that are finished
    are not trained again, and the current one continues from its last checkpoint. The outcome is that of a run that was
    not interrupted, to the bit on one device of the same kind with the same versions.

    Raises: Refusal for settings that contradict those of the run.
    """
    facts = _facts(folder)
    function = find("recipe", facts["recipe"], "ranvier.recipes").load()
    wanted = {**settings(function, given), **{k: v for k, v in fixed.items() if v is not None}}
    theirs = {**facts["settings"], "seed": facts["seed"], "precision": facts["precision"]}
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
    return carry_out(_again(function, facts), session, facts)


def changed(facts: Mapping[str, Any]) -> list[str]:
    """What a resumed run was continued with that it was not started with: then its bits may differ."""
    found = []
    for sitting in facts.get("resumed", []):
        if sitting["commit"] != facts["commit"]:
            found.append(f"ranvier {facts['commit']}, then {sitting['commit']}")
        for name, version in sitting["versions"].items():
            if (before := facts["versions"].get(name)) != version:
                found.append(f"{name} {before}, then {version}")
    return list(dict.fromkeys(found))


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


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        facts["recipe"], facts["settings"], facts["status"]
    except (ValueError, KeyError):
        raise Refusal(
            str(folder / "run.json"),
            expected="what a run writes before it trains",
            got="something else",
            do="Start a new run.",
        ) from None
    return facts
