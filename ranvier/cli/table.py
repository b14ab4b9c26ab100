"""Results as tables for a terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

from ranvier.lab.evidence import Verdict
from ranvier.lab.resume import changed
from ranvier.lab.run import Run


def print_run(done: Run) -> None:
    """A run's metrics side by side, its claims, and where its files are."""
    console = Console()
    facts = done.facts
    if done.result.interrupted:
        rows = facts["curves"]
        last = "It had not finished an epoch."
        if rows:
            last = "Fold {fold:.0f}, epoch {epoch:.0f}: loss {train loss:.3f}, accuracy {train accuracy:.3f}."
            last = last.format(**(rows[-1] | {"fold": rows[-1]["fold"] + 1}))
        console.print(f"[yellow]Interrupted.[/] {last} Weights so far: {done.folder / 'weights'}", soft_wrap=True)
        console.print(
            f"Go on with: ranvier run {facts['recipe']} --resume {done.folder}", soft_wrap=True, highlight=False
        )
    if facts["metrics"]:
        console.print(_metrics(facts["recipe"], facts["metrics"], facts["seconds"]))
    if not done.result.interrupted and facts["claims"]:
        console.print(_claims(facts["claims"], "one seed; `ranvier verify` judges the mean of several"))
    waiting = facts["waiting for data"]
    if waiting["share"] > 0.05:
        console.print(f"{waiting['share']:.0%} of the training went into making batches ({waiting['seconds']:.1f} s).")
    for difference in changed(facts):
        console.print(f"[yellow]Resumed with another version:[/] {difference}; its bits may differ.", soft_wrap=True)
    console.print(f"Report: {done.folder / 'report.html'}", soft_wrap=True, highlight=False)


def print_verdict(verdict: Verdict) -> None:
    """A recipe's claims: bound, measured, held or not."""
    seeds = verdict.facts["seeds"]
    console = Console()
    console.print(_claims(verdict.facts["claims"], f"{verdict.facts['recipe']}, mean of {len(seeds)} seed(s)"))


def _metrics(recipe: str, metrics: dict[str, float], seconds: dict[str, float]) -> Table:
    names = list(dict.fromkeys(k.rpartition(": ")[2] for k in metrics))
    table = Table("", *names, "training s", title=recipe, title_justify="left")
    for who in dict.fromkeys(k.rpartition(": ")[0] for k in metrics):
        prefix = f"{who}: " if who else ""
        cells = [f"{metrics[prefix + n]:.3f}" if prefix + n in metrics else "" for n in names]
        time = seconds.get(f"{prefix}training", seconds.get(who))
        table.add_row(who or "spiking network", *cells, "" if time is None else f"{time:.0f}")
    return table


def _claims(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table("claim", "measured", "held", "bound from", title=title, title_justify="left")
    for row in rows:
        held = {True: "[green]yes[/]", False: "[red]no[/]"}.get(row.get("held", "?"), "not run")
        table.add_row(row["claim"], f"{row['measured']:.3f}" if "measured" in row else "", held, row["origin"])
    return table
