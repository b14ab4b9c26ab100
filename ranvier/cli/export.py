"""`ranvier export`: a saved run as C, for a microcontroller."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranvier.cli.predict import Fold, RunFolder
from ranvier.core.checks import Refusal

if TYPE_CHECKING:
    from torch import Tensor

    from ranvier.data.samples import Samples
    from ranvier.lab.saved import SavedRun

CALIBRATED, STEPS = 32, 1000
"""Recordings that scales are fitted to, and steps of each."""


def export(
    folder: RunFolder,
    file: Annotated[Path, typer.Argument(metavar="OUT.c", help="The file to write; its functions are named after it.")],
    numbers: Annotated[
        str, typer.Option(help="float32; int8 or int16 for machines without floating point.")
    ] = "float32",
    tested: Annotated[int, typer.Option("--test", min=0, help="Test recordings that the file carries.")] = 2,
    libm: Annotated[bool, typer.Option(help="Whether the C library has expf and the like.")] = True,
    cpu: Annotated[
        str | None,
        typer.Option("--measure", help="Run it on an emulated cortex-m0, -m3, -m4 or -m7: flash, RAM, instructions."),
    ] = None,
    fold: Fold = 0,
) -> None:
    """Write a run's network as one C99 file without malloc, with a test that it carries with it.

    Whole numbers are fitted to the run's training data. Exit status 1 where the test fails on the emulator.

    Examples:  ranvier export runs/smartwatch/2026-01-31_12-00-00 watch.c --numbers int8
    ranvier export RUN watch.c --measure cortex-m4
    """
    from ranvier.deploy.c.cortex_m import measured
    from ranvier.deploy.c.export import export as write
    from ranvier.deploy.engine.program import compile
    from ranvier.lab.saved import load_run

    if cpu is not None and not tested:
        raise Refusal("--measure", expected="a file with a test", got="--test 0", do="Leave out one of them.")
    run = load_run(folder, fold)
    test = _alike(run.judged_on(), max(tested, 1))
    calibration = None if numbers == "float32" else _learnt_from(run)
    program = compile(run.model, tuple(test.shape[2:]), skip=False)
    done = write(program, file, numbers, test=test if tested else None, calibration=calibration, libm=libm)
    typer.echo(f"{done.path}: {done.name}_reset, {done.name}_step" + (f", {done.name}_decide" if program.tail else ""))
    if tested:
        typer.echo(f"Test it with: cc -std=c99 -D{done.name.upper()}_TEST {file} -lm -o {done.name} && ./{done.name}")
    if cpu is not None:
        found = measured(done.path, cpu)
        typer.echo(str(found))
        if not found.passed:
            typer.secho(found.printed, err=True, fg="red")
            raise typer.Exit(1)


def _alike(samples: "Samples", count: int) -> "Tensor":
    """The first recordings of one length."""
    chosen = [i for i in range(len(samples)) if len(samples.x[i]) == len(samples.x[0])][:count]
    return samples.batch(chosen).x


def _learnt_from(run: "SavedRun") -> "Tensor":
    """Some of what the run was trained on."""
    import numpy as np

    if run.format is None:
        samples: Samples = run.recipe.data(run.fold).train
    else:
        every, seen = run.samples(run.facts["settings"]["data"])
        samples = every.take(seen)
    chosen = np.linspace(0, len(samples) - 1, min(CALIBRATED, len(samples))).astype(int)
    return samples.batch(chosen).x[:STEPS]
