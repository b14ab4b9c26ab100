"""`ranvier sweep`: which settings of a recipe are best."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ranvier.core.checks import Refusal


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe's name; see `ranvier list recipes`.")],
    over: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUES",
            help="A setting to search: LOW..HIGH (on a logarithmic scale from a factor of ten) or A,B,C; may be repeated.",
        ),
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Fix another setting; may be repeated.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many trials the study is to have.")] = 20,
    metric: Annotated[str, typer.Option(help="What is optimised; one of the recipe's metrics.")] = "accuracy",
    direction: Annotated[Literal["maximize", "minimize"], typer.Option(help="Which way is better.")] = "maximize",
    storage: Annotated[
        str | None,
        typer.Option(help="Where the study lies, as Optuna writes it; sqlite:///runs/RECIPE/sweep.db by default."),
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run trials as Ray tasks there; `local` starts Ray here.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Every trial trains with it, and the search starts from it.")] = 0,
    smoke: Annotated[bool, typer.Option("--smoke", help="A size that finishes in seconds.")] = False,
    accelerator: Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda, mps ...")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a trial.")] = 1,
    runs: Annotated[Path, typer.Option("--runs", help="Folder under which the study and its trials lie.")] = Path(
        "runs"
    ),
) -> None:
    """Search a recipe's settings with Optuna, and print the best trials.

    The same command goes on where it was; a trial that was killed is tried again. Unless the recipe offers a
    validation split, the metric is of its TEST samples: then the best value flatters, and what was chosen this way must
    be confirmed on data that the sweep never saw. The output says which it is.

    Examples:  ranvier sweep smartwatch --over lr=1e-3..1e-1 --over width=64,96,128 --trials 30
    """
    import torch

    from ranvier.lab.recipe import Session
    from ranvier.lab.sweep import Sweep, search, space

    given = {"smoke": "true"} if smoke else {}
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise Refusal("--set", expected="NAME=VALUE", got=repr(change), do="Write for instance --set epochs=5.")
        given[name] = value
    wanted = Sweep(recipe, space(recipe, over), given, metric, direction, trials)
    where = wanted.judged_on()
    if where == "test":
        typer.secho(
            f"This optimises {metric} on the test samples of {recipe}, which has no validation split: the best value "
            "flatters. Confirm what you choose on data that this sweep never saw.",
            err=True,
            fg="yellow",
        )
    torch.set_num_threads(threads)
    session = Session(Path(), seed, accelerator, progress=False)
    folder = runs / recipe
    study = search(wanted, session, folder, storage, ray, _told)
    _print(study, wanted.metric, where)
    typer.echo(f"All trials: {folder / 'sweep.json'}")
    if session.stop.is_set():
        raise typer.Exit(130)


def _told(trial: Any) -> None:
    chosen = "  ".join(f"{k}={_short(v)}" for k, v in trial.params.items())
    value = trial.user_attrs.get("why", "") if trial.value is None else _short(trial.value)
    typer.echo(f"trial {trial.number}: {trial.state.name.lower()} {value}  {chosen}", err=True)


def _print(study: Any, metric: str, where: str, most: int = 10) -> None:
    from optuna.study import StudyDirection
    from optuna.trial import TrialState
    from rich.console import Console
    from rich.table import Table

    done = [t for t in study.trials if t.state == TrialState.COMPLETE]
    done.sort(key=lambda t: t.value, reverse=study.direction == StudyDirection.MAXIMIZE)
    names = list(dict.fromkeys(name for t in done for name in t.params))
    title = f"{study.study_name}: the best of {len(study.trials)} trials"
    table = Table("trial", f"{metric} ({where} samples)", *names, "s", title=title, title_justify="left")
    for t in done[:most]:
        cells = [_short(t.params.get(name, "")) for name in names]
        table.add_row(str(t.number), f"{t.value:.4f}", *cells, f"{t.duration.total_seconds():.0f}")
    Console().print(table)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
