"""`ranvier bench`: speed and memory side by side with other packages."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ranvier.core.checks import Refusal

app = typer.Typer(no_args_is_help=True, help="Measure speed and memory beside other packages.")


@app.callback()
def _group() -> None:
    """Keep `neuron` a command of its own while it is the only one."""


@app.command()
def neuron(
    name: Annotated[str, typer.Argument(help="A neuron's name; see `ranvier list neurons`.")],
    shape: Annotated[
        str | None, typer.Option(metavar="T,B,F...", help="Steps, batch, features; 100,64,1024 on a CPU by default.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or float64.")] = "float32",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; a GPU where there is one.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 9,
    peers: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Of spikingjelly, snntorch, norse, loop, compile; all by default."),
    ] = None,
    memory: Annotated[bool, typer.Option(help="Peak memory and first calls, each in a process of its own.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything measured for programs.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Keep it under benchmarks/results.")] = False,
) -> None:
    """Forward and forward + backward of a neuron: ours, other packages at their fastest, and torch.compile of our loop.

    A ratio counts only where spikes and gradient are the same as ours. docs/benchmarks.md says how to set the peers up.

    Examples:  ranvier bench neuron lif  |  ranvier bench neuron cuba-lif --shape 50,32,512 --peers norse,compile
    """
    import json

    import torch
    from rich.console import Console

    from ranvier.core.files import write_json
    from ranvier.lab.bench.neuron import bench_neuron, filename

    if threads is not None:
        torch.set_num_threads(threads)
    console = Console(stderr=True)
    with console.status("") as status:
        facts = bench_neuron(
            name,
            None if shape is None else _sizes(shape),
            dtype,
            device,
            rounds,
            None if peers is None else [p for p in peers.split(",") if p],
            memory,
            say=status.update,
        )
    if as_json:
        typer.echo(json.dumps(facts, indent=1, allow_nan=False))
    else:
        _show(facts)
    if save:
        folder = Path("benchmarks/results")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / filename(facts), facts)
        typer.echo(f"Result: {folder / filename(facts)}", err=as_json)


def _sizes(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise Refusal("--shape", expected="T,B,F...", got=repr(text), do="Write for instance 100,64,512.")
    return [int(word) for word in words]


def _show(facts: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 110))
    shape, load = "x".join(map(str, facts["shape"])), facts["load"]
    title = f"{facts['neuron']}, {shape} {facts['dtype']}, {facts['device']}: ms, median (least) of {facts['rounds']}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in ("", "as", "forward", "x", "+ backward", "x", "kept", "peak", "first s"):
        table.add_column(name, justify="left" if name in ("", "as") else "right", no_wrap=name != "")
    for row in facts["rows"]:
        who = row["who"] if row["who"] != "ranvier" or row["ours"] == "defaults" else f"ranvier {row['ours']}"
        sizes = [f"{row[k]:.1f}" if k in row else "" for k in ("kept", "peak", "first, s")]
        table.add_row(who, row["mode"], *_times(row, "forward"), *_times(row, "both"), *sizes)
    limits = [next(v for k, v in facts["copy"].items() if k.startswith(what)) for what in ("forward", "both")]
    table.add_row("2 and 5 passes", "copy", f"{limits[0]:.3g}", "", f"{limits[1]:.3g}")
    console.print(table)
    notes = [
        "x: times as long as ours in the same mode, with the same options. kept for backward, peak: in tensors of the input's size.",
        *(f"{r['who']}, {r['mode']}: {r.get('error') or r['parity']['found']}" for r in facts["rows"] if not _same(r)),
        *(
            f"{r['who']}: {r['settings']}; ours: {r['ours']}"
            for r in facts["rows"]
            if r["who"] not in ("ranvier", "loop", "compile") and r["mode"] == "eager"
        ),
        *(f"{one['who']} left out: {one['reason']}" for one in facts["left out"]),
        *(f"{who} at its fastest ({f['as']}): {f['ratio']:.2f} times ours" for who, f in facts["fastest"].items()),
    ]
    if "first call" in facts:
        notes.append(
            "our first pass in a new process: " + ", ".join(f"{k} {v:.2f}" for k, v in facts["first call"].items())
        )
    if load["busy"]:
        notes.append(
            f"Don't trust these times: load {load['load before']:.1f} before, and others used "
            f"{load['cores used by others']:.1f} of {load['cores']} cores meanwhile."
        )
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _same(row: dict[str, Any]) -> bool:
    return "error" not in row and bool(row["parity"]["holds"])


def _times(row: dict[str, Any], what: str) -> tuple[str, str]:
    found = row.get(what)
    if found is None:
        return "", ""
    return f"{found['median']:.3g} ({found['min']:.3g})", f"{found['ratio']:.2f}" if "ratio" in found else "-"
