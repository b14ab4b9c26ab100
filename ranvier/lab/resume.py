"""Which runs there are to go on with, and what of them is done."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ranvier.core.checks import Refusal
from ranvier.core.files import write_json
from ranvier.lab.machine import commit, versions
from ranvier.lab.recipe import Session

_VERIFY = "verify.json"


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
        return max(runs, key=lambda folder: read(folder)["started"])
    for folder in (Path(which), root / name / which):
        if (folder / "run.json").is_file():
            theirs = read(folder).get("recipe")
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
    return bool(read(folder)["status"] == "finished" and (folder / "report.html").exists())


def begin(folder: Path, command: str) -> None:
    """Note in the folder of a recipe's runs that a verify begins, so that `left` tells its runs from older ones."""
    with suppress(OSError):  # that it can't be written is said by the run
        folder.mkdir(parents=True, exist_ok=True)
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        write_json(folder / _VERIFY, {"command": command, "started": started})


def begun(folder: Path) -> bool:
    """Whether a verify has begun there."""
    return (folder / _VERIFY).exists()


def forget(folder: Path) -> None:
    """Remove the note that a verify has begun where nothing came of it."""
    if [path.name for path in folder.iterdir()] == [_VERIFY]:
        (folder / _VERIFY).unlink()


def left(folder: Path, settings: Mapping[str, Any], session: Session) -> dict[int, Path]:
    """The runs, by seed, that the last verify has made so far in the folder of a recipe's runs, finished or not."""
    if not begun(folder):
        return {}
    since = datetime.fromisoformat(json.loads((folder / _VERIFY).read_text(encoding="utf-8"))["started"])
    wanted = {"settings": dict(settings), **{k: getattr(session, k) for k in ("precision", "accelerator", "devices")}}
    found = {}
    for path in sorted(folder.glob("*/run.json")):
        with suppress(Refusal):  # killed before it wrote more than its name
            facts = read(path.parent)
            mine = facts["command"].startswith("ranvier verify ") and wanted.items() <= facts.items()
            if mine and datetime.fromisoformat(facts["started"]) >= since:
                found[facts["seed"]] = path.parent
    return found


def mixed(folders: Iterable[Path]) -> list[str]:
    """What the runs there were made with, or continued with, that is not what there is now."""
    now = {"commit": commit(), "versions": versions()}
    each = (read(folder) for folder in folders)
    found = [change for facts in each for change in changed({**facts, "resumed": [*facts.get("resumed", []), now]})]
    return list(dict.fromkeys(found))


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


def read(folder: Path) -> dict[str, Any]:
    """The run.json of a run.

    Raises: Refusal when it is none.
    """
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
