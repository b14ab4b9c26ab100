"""`ranvier predict` and `ranvier evaluate`: using a saved run."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ranvier.core.checks import NonFinite, Refusal

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder, under runs/RECIPE/.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Fold = Annotated[int, typer.Option(min=0, help="Whose weights, for recipes of several folds.")]


def predict(
    folder: RunFolder,
    files: Annotated[list[str], typer.Argument(help="Recordings; - reads names from the input, one a line.")],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a file, as soon as it is read.")] = False,
    fold: Fold = 0,
) -> None:
    """Say of which class recordings are, with a run that was trained on a folder.

    Files that can't be read are named, the others are still predicted; exit status 1 then.

    Example:  ranvier predict runs/classify/2026-01-31_12-00-00 new/*.wav
    """
    from ranvier.lab.saved import load_run

    run = load_run(folder, fold)
    if run.format is None and files:
        run.predict(files[0])  # says why no file can be
    rows: list[dict[str, Any]] = []
    failed = False
    for file in files if files != ["-"] else (line.rstrip("\n") for line in sys.stdin if line.strip()):
        try:
            values = run.predict(file).tolist()
        except (Refusal, NonFinite, OSError) as why:
            failed = True
            row: dict[str, Any] = {"file": file, "error": str(why)}
            if not as_json:
                typer.secho(str(why), err=True, fg="red")
        else:
            chances = dict(zip(run.classes, values, strict=True))
            row = {"file": file, "class": max(chances, key=chances.__getitem__), "probabilities": chances}
        if as_json:
            typer.echo(json.dumps(row))
        rows.append(row)
    if not as_json:
        _print_predicted([row for row in rows if "class" in row], run.classes)
    if failed:
        raise typer.Exit(1)


def evaluate(
    folder: RunFolder,
    data: Annotated[
        str | None,
        typer.Argument(help="A folder like the one trained on, or NAME:SPLIT of a data set; else the run's test part."),
    ] = None,
    as_json: AsJson = False,
    fold: Fold = 0,
) -> None:
    """Judge a run on labelled data: accuracy, accuracy of each class, and what was taken for what.

    Recordings that the run was trained on are told apart by their content: what counts is the accuracy on the others.

    Examples:  ranvier evaluate runs/classify/2026-01-31_12-00-00 more/  |  ranvier evaluate RUN digits:test  |
    ranvier evaluate RUN
    """
    import numpy as np

    from ranvier.lab.saved import load_run

    run = load_run(folder, fold)
    if data is None:
        samples = run.judged_on()
        seen = np.zeros(len(samples), dtype=bool)
    else:
        samples, seen = run.samples(data)
    answer = run.probabilities(samples).argmax(1).numpy()
    hits, classes = answer == samples.y, run.classes
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(confusion, (samples.y, answer), 1)
    each = {c: float(hits[samples.y == i].mean()) for i, c in enumerate(classes) if (samples.y == i).any()}
    facts = {
        "run": str(folder),
        "data": data or "the run's test part",
        "recordings": len(samples),
        "accuracy": float(hits.mean()),
        "trained on": int(seen.sum()),
        "accuracy on the others": float(hits[~seen].mean()) if (~seen).any() else None,
        "class accuracy": each,
        "classes": list(classes),
        "confusion": confusion.tolist(),
    }
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _print_judged(facts)


def _print_predicted(rows: list[dict[str, Any]], classes: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    shown = classes if len(classes) <= 12 else ()
    table = Table("file", "class", *(shown or ("probability",)))
    for row in rows:
        chances = row["probabilities"]
        values = [chances[c] for c in shown] or [chances[row["class"]]]
        table.add_row(row["file"], f"[bold]{row['class']}[/]", *(f"{v:.3f}" for v in values))
    _console(Console, table)


def _print_judged(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    typer.echo(f"accuracy {facts['accuracy']:.3f} on {facts['recordings']} recordings of {facts['data']}")
    if facts["trained on"]:
        others = facts["accuracy on the others"]
        rest = "there are no others" if others is None else f"accuracy on the others {others:.3f}"
        typer.secho(f"The run was trained on {facts['trained on']} of them; {rest}.", fg="yellow")
    names = facts["classes"]
    shown = names if len(names) <= 12 else []
    table = Table("class", "accuracy", *(f"as {c}" for c in shown))
    for name, counts in zip(names, facts["confusion"], strict=True):
        if name in facts["class accuracy"]:
            table.add_row(name, f"{facts['class accuracy'][name]:.3f}", *(map(str, counts) if shown else ()))
    _console(Console, table)


def _console(kind: Any, table: Any) -> None:
    console = kind()
    if not console.is_terminal:  # a file has no width to keep to
        console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)
