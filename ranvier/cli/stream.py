"""`ranvier stream`: a saved run on events or frames as they come."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ranvier.cli.predict import Fold, RunFolder
from ranvier.core.checks import NonFinite, Refusal


def stream(
    folder: RunFolder,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="FILE|-|DATA",
            help="A file of events or lines, - for lines from the input, a data set's name or NAME:SPLIT, or test: what the run was judged on.",
        ),
    ],
    dt: Annotated[
        float | None,
        typer.Option(
            metavar="MICROSECONDS",
            help="Of one step. Without it recordings are counted in as many slices as in training.",
        ),
    ] = None,
    on_bad: Annotated[
        Literal["raise", "drop"], typer.Option(help="What becomes of bad events: stop, or leave out and count.")
    ] = "raise",
    speed: Annotated[
        float | None, typer.Option(min=1e-6, help="1 plays as fast as it was recorded; as fast as possible by default.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Steps from one decision to the next.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Recordings to play; all by default.")] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="SIZES", help="Of a step, as 2,34,34, where the run's data are not there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a decision, and one of totals.")] = False,
    fold: Fold = 0,
) -> None:
    """Run a saved network on a stream of events or frames, and watch what it says.

    The terminal shows the decision and its confidence over time, how many neurons of each layer are active, events per
    second, and how long a step takes. Lines are JSON or CSV: {"t": 1000, "x": 3, "y": 5, "p": 1} is an event, [0, 1, ...]
    a frame, t,x,y,p a line of names. Where a stream breaks off, what came before is kept; exit status 1 then.

    Examples:  ranvier stream runs/nmnist-small/2026-01-31_12-00-00 --from nmnist-small  |  ranvier stream RUN --from
    record.aedat4 --dt 10000 --speed 1  |  camera | ranvier stream RUN --from - --dt 10000 --json
    """
    from ranvier.deploy.engine.admission import time_step
    from ranvier.lab.saved import load_run
    from ranvier.lab.streaming.network import Network
    from ranvier.lab.streaming.session import Session
    from ranvier.lab.streaming.sources import Wanted, recordings

    run = load_run(folder, fold)
    sizes = _sizes(shape) if shape else run.format.shape if run.format else None
    if sizes is None:
        sizes = tuple(run.judged_on().x[0].shape[1:])
    wanted = Wanted(run, sizes, None if dt is None else time_step(dt), on_bad)
    session = Session(Network(run.model, sizes), wanted, every, speed)
    begun = time.perf_counter()
    show: Any = _json_lines if as_json else _shown
    broken: list[BaseException] = []

    def reports() -> Iterator[Any]:
        try:
            for number, recording in enumerate(recordings(source, wanted, sys.stdin.buffer)):
                if limit is not None and number >= limit:
                    return
                yield from session.play(recording)
        except (Refusal, NonFinite, KeyboardInterrupt) as why:
            broken.append(why)

    show(reports(), session, run, lambda: time.perf_counter() - begun)
    if broken and isinstance(broken[0], KeyboardInterrupt):  # of an endless stream too the totals are wanted
        raise broken[0]
    if broken:
        if as_json:
            typer.echo(json.dumps({"error": str(broken[0])}))
        else:
            typer.secho(f"ranvier: {broken[0]}", err=True, fg="red")
        raise typer.Exit(1)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in text.split(","))
        if min(sizes) < 1:
            raise ValueError
    except ValueError:
        raise Refusal("--shape", expected="sizes such as 2,34,34", got=repr(text), do="Correct it.") from None
    return sizes


def totals_of(session: Any, seconds: float) -> dict[str, Any]:
    """What a session came to, for programs."""
    t = session.totals
    return {
        "recordings": t.recordings,
        "accuracy": t.right / t.labelled if t.labelled else None,
        "events": t.events,
        "steps": t.steps,
        "skipped": t.skipped,
        "dropped": {reason: n for reason, n in t.dropped.items() if n},
        "seconds": seconds,
        "events per second": t.events / seconds if seconds else 0.0,
        "latency ms": {f"p{p}": 1000 * t.latency.percentile(p) for p in (50, 90, 99)},
    }


def _json_lines(reports: Iterator[Any], session: Any, run: Any, clock: Any) -> None:
    for r in reports:
        row = {"recording": r.recording, "step": r.step, "seconds": r.seconds, "class": r.decision}
        row |= {"confidence": r.confidence, "rates": r.rates, "last": r.last}
        if r.label is not None:
            row["label"] = r.label
        if r.last:
            row["probabilities"] = dict(zip(run.classes, r.probabilities, strict=False))
        typer.echo(json.dumps(row))
    typer.echo(json.dumps({"totals": totals_of(session, clock())}))


def _shown(reports: Iterator[Any], session: Any, run: Any, clock: Any) -> None:
    from rich.console import Console
    from rich.live import Live

    from ranvier.cli.stream_view import View

    console = Console()
    view = View(f"{run.facts['recipe']} ({Path(run.folder).name})", run.classes)
    if not console.is_terminal:
        for r in reports:
            view.take(r)
        console.print(view.picture(totals_of(session, clock())))
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        shown = -1.0
        for r in reports:
            view.take(r)
            if clock() - shown >= 0.1:
                live.update(view.picture(totals_of(session, clock())), refresh=True)
                shown = clock()
        live.update(view.picture(totals_of(session, clock())), refresh=True)
