"""The `ranvier` command."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ranvier import __version__
from ranvier.cli import bench, data, export, predict, stream, sweep
from ranvier.cli.options import LatestByDefault, threads_of, use_threads
from ranvier.core.checks import MissingPackage, NonFinite, Refusal, nearest
from ranvier.core.discovery import discover

# Lightning and plotly take seconds to import: each command imports what it needs itself.

FAILED, IMPOSSIBLE, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="ranvier",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Spiking neural networks: written once, trained fast, checked honestly.\n\n"
    "Start with:  ranvier list  |  ranvier run smartwatch  |  ranvier verify smartwatch",
)

app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.command()(sweep.sweep)
app.command()(predict.predict)
app.command()(predict.evaluate)
app.command()(export.export)
app.command()(stream.stream)

_ROOMS = {
    "recipes": ("ranvier.recipes", None),
    "neurons": ("ranvier.nn.neurons", "neuron"),
    "data": ("ranvier.data.sets", "dataset"),
}

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Change a setting of the recipe; may be repeated. `run RECIPE --settings` shows them.",
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Short for --set epochs=N.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="A size that finishes in seconds; short for --set smoke=true.")]
Accelerator = Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda, mps ...")]
Devices = Annotated[str, typer.Option(help="How many devices, or auto.")]
Precision = Annotated[str, typer.Option(help="32-true, bf16-mixed, 16-mixed, 64-true ...")]
Threads = Annotated[
    str,
    typer.Option(
        help="CPU threads. auto measures once for each recipe and machine whether one or all are faster; one with --smoke."
    ),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder under which every run gets a folder of its own.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


def main() -> None:
    """Entry point: typer's own, with our errors as one clear line and their exit status."""
    try:
        app()
    except (Refusal, MissingPackage, NonFinite) as error:
        typer.secho(f"ranvier: {error}", err=True, fg="red")
        sys.exit(FAILED if isinstance(error, NonFinite) else IMPOSSIBLE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command("list")
def show(
    what: Annotated[str | None, typer.Argument(help="recipes, neurons or data; all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What there is: recipes, neurons and data sets, one line each."""
    if what is not None and what not in _ROOMS:
        raise Refusal("list", expected="recipes, neurons or data", got=repr(what), do=nearest(what, _ROOMS))
    rooms = {name: discover(*place) for name, place in _ROOMS.items() if what in (None, name)}
    if as_json:
        typer.echo(
            json.dumps(
                {name: {k: thing.summary for k, thing in room.items()} for name, room in rooms.items()}, indent=1
            )
        )
        return
    width = max(len(k) for room in rooms.values() for k in room)
    for name, room in rooms.items():
        typer.secho(name, bold=True)
        for k, thing in room.items():
            typer.echo(f"  {k:<{width}}  {thing.summary}")


@app.command(cls=LatestByDefault)
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name; see `ranvier list recipes`.")],
    changes: Set = None,
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it; 0 by default.")] = None,
    epochs: Epochs = None,
    recordings: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="FOLDER", help="One's own recordings, FOLDER/CLASS/FILE; short for --set data=FOLDER."
        ),
    ] = None,
    smoke: Smoke = False,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[FOLDER|latest]",
            help="Go on with an interrupted or killed run in its folder, the latest of this recipe by default.",
        ),
    ] = None,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints within an epoch.")] = 60.0,
    logger: Annotated[
        list[str] | None,
        typer.Option(
            help="tensorboard, csv, wandb, mlflow or none; may be repeated. TensorBoard and CSV by default, none with --smoke."
        ),
    ] = None,
    accelerator: Accelerator = "auto",
    devices: Devices = "auto",
    precision: Annotated[
        str | None, typer.Option(help="32-true, bf16-mixed, 16-mixed, 64-true ...; 32-true by default.")
    ] = None,
    threads: Threads = "auto",
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
    show_settings: Annotated[bool, typer.Option("--settings", help="Print the recipe's settings and stop.")] = False,
) -> None:
    """Train a recipe's network, print its results and write a report.

    Weights, numbers, logs and report.html go to runs/RECIPE/TIME/, which is never overwritten. Ctrl-C keeps what there
    is, and --resume goes on from there: the result is to the bit what it is without interruption.

    Examples:  ranvier run smartwatch  |  ranvier run smartwatch --epochs 5 --set lr=1e-3 --seed 3  |
    ranvier run smartwatch --resume  |  ranvier run classify --data FOLDER
    """
    from ranvier.cli.table import print_run
    from ranvier.lab.loggers import chosen
    from ranvier.lab.recipe import Session
    from ranvier.lab.resume import finished, locate
    from ranvier.lab.run import prepare, run_recipe
    from ranvier.lab.run import resume as go_on

    given, count = _given(changes, epochs, smoke), threads_of(threads)
    if recordings is not None:
        given["data"] = str(recordings.absolute())  # a run goes on from anywhere
    every = prepare(recipe, given)[2]
    if show_settings:
        for name, value in every.items():
            typer.echo(f"{name} = {value}")
        return
    folder = None if resume is None else locate(recipe, resume, runs)
    if folder is not None and finished(folder):
        typer.echo(f"This run is finished, nothing is left to do: {folder / 'report.html'}")
        return
    loggers = None if folder is not None and logger is None else chosen(logger, bool(every.get("smoke")))
    session = Session(
        *(Path(), seed or 0, accelerator, _count(devices), precision or "32-true"),
        progress=not quiet,
        every=checkpoint_every,
        loggers=loggers or (),
    )
    if folder is None:
        use_threads(count, recipe, given, session)
        done = run_recipe(recipe, given, session, runs, _command())
    else:
        fixed = {"seed": seed, "precision": precision, "threads": count}
        done = go_on(folder, given, session, fixed, _command(), loggers)
    print_run(done)
    if done.result.interrupted:
        raise typer.Exit(INTERRUPTED)


@app.command()
def verify(
    recipes: Annotated[list[str] | None, typer.Argument(help="Recipes; or --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All recipes.")] = False,
    changes: Set = None,
    smoke: Smoke = False,
    save: Annotated[
        bool, typer.Option("--save", help="Write evidence/RECIPE.json and bring the README's scoreboard up to date.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the evidence for programs.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last verify: what it has done of its seeds is kept.")
    ] = False,
    accelerator: Accelerator = "auto",
    devices: Devices = "auto",
    precision: Precision = "32-true",
    threads: Threads = "auto",
    runs: Runs = Path("runs"),
    quiet: Quiet = False,
) -> None:
    """Run recipes over their seeds and check every claim: claim, bound, measured, held or not.

    A verify that was interrupted or killed goes on with --resume, which takes the seeds that are done as they are.

    Exit status: 0 every claim held, 1 one did not, 2 it could not run, 130 interrupted.
    """
    from ranvier.cli.table import print_verdict
    from ranvier.lab.evidence import keep, verify
    from ranvier.lab.recipe import Session
    from ranvier.lab.resume import begin, begun, left, mixed
    from ranvier.lab.run import prepare

    given, count = _given(changes, None, smoke), threads_of(threads)
    # a recipe for one's own data has no claims to check
    size = {"smoke": "true"} if smoke else {}
    names = [n for n in discover("ranvier.recipes") if prepare(n, size)[1].claims] if every else recipes or []
    if not names:
        raise Refusal("verify", expected="recipes or --all", got="neither", do=nearest("", discover("ranvier.recipes")))
    if save and smoke:
        raise Refusal(
            "verify --save",
            expected="the full size",
            got="--smoke",
            do="Evidence of the smoke size proves nothing; leave out one of them.",
        )
    session = Session(
        *(Path(), 0, accelerator, _count(devices), precision), progress=not (quiet or as_json), resume=resume
    )
    settings = {name: prepare(name, given)[2] for name in names}
    if resume and not any(begun(runs / name) for name in names):
        raise Refusal("--resume", expected=f"a verify under {runs}", got="none", do="Start one without --resume.")
    for name in names:
        if not (resume and begun(runs / name)):
            begin(runs / name, _command())
    verdicts = []
    for name in names:
        before = left(runs / name, settings[name], session) if resume else {}
        for number, folder in before.items():
            typer.echo(f"{name}, seed {number}: goes on with {folder}", err=True)
        use_threads(count, name, given, session)
        verdict = verify(name, given, session, runs, _command())
        if others := mixed(before.values()):
            verdict.facts["other versions"] = others
            typer.secho(f"Some seeds were run with another version: {', '.join(others)}.", err=True, fg="yellow")
        verdicts.append(verdict)
        if not as_json:
            print_verdict(verdict)
        if verdict.interrupted:
            break
        if save:
            path = keep(verdict, Path("evidence"))
            typer.echo(f"Evidence: {path}", err=as_json)
    if as_json:
        typer.echo(json.dumps([v.facts for v in verdicts], indent=1))
    if verdicts[-1].interrupted:
        typer.echo(f"Go on with: {_command()}{'' if resume else ' --resume'}", err=True)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if all(v.held for v in verdicts) else FAILED)


@app.command()
def report(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A run's folder, such as runs/smartwatch/2026-01-31_12-00-00.", exists=True, file_okay=False
        ),
    ],
) -> None:
    """Write a run's report.html anew from what lies in its folder."""
    from ranvier.lab.report import write

    typer.echo(write(folder))


def _given(changes: Sequence[str] | None, epochs: int | None, smoke: bool) -> dict[str, str]:
    given = {}
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise Refusal("--set", expected="NAME=VALUE", got=repr(change), do="Write for instance --set lr=1e-3.")
        given[name] = value
    return given | ({"epochs": str(epochs)} if epochs else {}) | ({"smoke": "true"} if smoke else {})


def _count(devices: str) -> str | int:
    if devices == "auto":
        return devices
    if not devices.isdecimal() or int(devices) < 1:
        raise Refusal("--devices", expected="a number or auto", got=repr(devices), do="Write for instance --devices 2.")
    return int(devices)


def _command() -> str:
    return shlex.join(["ranvier", *sys.argv[1:]])
