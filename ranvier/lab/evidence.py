"""Evidence: a recipe run over its seeds, each claim judged on the mean, and the scoreboard made from it."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ranvier.core.files import write_json, write_text
from ranvier.lab.machine import commit, hardware, versions
from ranvier.lab.recipe import Session
from ranvier.lab.run import judged, prepare, run_recipe

BEGIN, END = "<!-- scoreboard: made by `ranvier verify --save` -->", "<!-- end of scoreboard -->"


@dataclass(frozen=True)
class Verdict:
    """What `verify` found for one recipe."""

    facts: dict[str, Any]
    interrupted: bool = False

    @property
    def held(self) -> bool:
        """Whether every claim was measured and held."""
        return not self.interrupted and all(row.get("held", False) for row in self.facts["claims"])


def verify(name: str, given: Mapping[str, str], session: Session, root: Path, command: str) -> Verdict:
    """Run a recipe once for each of its seeds and judge its claims on the mean of every metric."""
    found, recipe, every = prepare(name, given)
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    runs = []
    for seed in recipe.seeds:
        runs.append(run_recipe(name, given, replace(session, seed=seed), root, command))
        if runs[-1].result.interrupted:
            break
    names = [k for k in runs[0].result.metrics if all(k in r.result.metrics for r in runs)]
    columns = {k: [r.result.metrics[k] for r in runs] for k in names}
    mean = {k: statistics.fmean(v) for k, v in columns.items()}
    facts = {
        "recipe": name,
        "summary": found.summary,
        "source": recipe.source,
        "command": command,
        "settings": every,
        "started": started,
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
        "seeds": [r.facts["seed"] for r in runs],
        "claims": judged(recipe, mean),
        "mean": mean,
        "spread": {k: statistics.stdev(v) if len(v) > 1 else 0.0 for k, v in columns.items()},
        "each": columns,
        "seconds": [r.facts["seconds"] for r in runs],
    }
    return Verdict(facts, runs[-1].result.interrupted)


def keep(verdict: Verdict, folder: Path) -> Path:
    """Write the verdict to `folder`, and bring the scoreboard of a README.md beside that folder up to date."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{verdict.facts['recipe']}.json"
    write_json(path, verdict.facts)
    readme = folder.parent / "README.md"
    if readme.is_file() and BEGIN in (text := readme.read_text(encoding="utf-8")):
        head, rest = text.split(BEGIN, 1)
        write_text(readme, f"{head}{BEGIN}\n{scoreboard(folder)}{END}{rest.split(END, 1)[1]}")
    return path


def scoreboard(folder: Path) -> str:
    """A Markdown table of every claim in the evidence, held or not."""
    lines = ["| recipe | claim | measured | held | bound from |", "| --- | --- | --- | --- | --- |"]
    for path in sorted(folder.glob("*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        for row in facts["claims"]:
            measured = f"{row['measured']:.3f}" if "measured" in row else "not run"
            held = {True: "yes", False: "**no**"}.get(row.get("held"), "not run")
            lines.append(
                f"| {facts['recipe']} | {row['claim']} | {measured} (mean of {len(facts['seeds'])}) | {held} | {row['origin']} |"
            )
    return "\n".join(lines) + "\n"
