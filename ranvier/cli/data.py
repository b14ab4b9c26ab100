"""`ranvier data`: what data sets there are, where their files lie, and getting those that are missing."""

import inspect
import json
import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ranvier.core.checks import MissingPackage, Refusal, nearest
from ranvier.core.discovery import Found, discover, find
from ranvier.data.download import download
from ranvier.data.origin import File, local

app = typer.Typer(no_args_is_help=True, help="List, describe and download data sets.")

_ROOM = "ranvier.data.sets", "dataset"

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """The data sets: size on disk or to download, where the files were found, licence.

    Only looks whether files are there; `ranvier data get` and loading verify them.
    """
    rows = [_row(found) for found in discover(*_ROOM).values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 120))
    table = Table("name", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("size", justify="right", no_wrap=True)
    for name in ("found", "licence", "what it is"):
        table.add_column(name)
    for row in rows:
        table.add_row(row["name"], _megabytes(row["bytes"]), row["found"], _short(row["licence"]), row["summary"])
    console.print(table)
    folder = os.environ.get("RANVIER_DATA") or "not set"
    typer.echo(f"copy: in the folder that RANVIER_DATA names ({folder}); downloaded: by `ranvier data get`.")


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="A data set's name; see `ranvier data list`.")], as_json: AsJson = False
) -> None:
    """A data set: what it holds, its licence and citation, its files and where they are.

    Example:  ranvier data info mnist
    """
    found = find("data set", name, *_ROOM)
    kind = found.load()
    facts = _row(found) | {
        "description": inspect.getdoc(kind),
        "citation": kind.citation,
        "splits": list(kind.splits),
        "classes": list(getattr(kind, "classes", ())),
        "files": [_facts(file) for file in kind.files],
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.secho(name, bold=True)
    typer.echo(str(facts["description"]).split("\n>>>")[0].rstrip())
    for what in ("licence", "citation"):
        typer.echo(f"\n{what.capitalize()}: {facts[what]}")
    for what in ("splits", "classes"):
        if facts[what]:
            typer.echo(f"\n{what.capitalize()}: {', '.join(facts[what])}")
    told = set()
    for file in facts["files"]:
        again = file["path"] in told
        typer.echo("  or, with the same contents:" if again else f"\n{file['path']}: {file['where'] or 'missing'}")
        told.add(file["path"])
        for what in ("at", "bytes", "checksum", "urls", "package", "note")[again:]:
            for value in file[what] if what == "urls" else [file[what]]:
                if value:
                    typer.echo(f"  {what.removesuffix('s') if what == 'urls' else what}: {value}")


@app.command()
def get(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; or --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All data sets that can be downloaded.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Download what is missing of data sets, and verify what is there.

    Goes on where an earlier download stopped. Exit status: 2 if a file is damaged or could not be downloaded, or if a
    set that was named is not to be had at all.

    Examples:  ranvier data get mnist fashion-mnist  |  ranvier data get --all
    """
    known = discover(*_ROOM)
    if not every and not names:
        raise Refusal("get", expected="data sets or --all", got="neither", do=nearest("", known))
    chosen = list(known.values()) if every else [find("data set", name, *_ROOM) for name in names or []]
    local(".", "")  # refuses where RANVIER_DATA is no folder
    well = [_get(found, named=not every, progress=not quiet) for found in chosen]
    if not all(well):
        raise typer.Exit(2)


def _get(found: Found, named: bool, progress: bool) -> bool:
    """Whether all went well, said line by line."""
    well, there = True, False
    for files in _by_path(found.load().files).values():
        try:
            typer.echo(f"{found.name}: {_have(files, progress)}")
            there = True
        except (Refusal, MissingPackage) as why:
            typer.secho(f"{found.name}: {why}", err=True, fg="yellow")
            # what has no URL is another way to the same data, or all there is: then the set as a whole is missing
            well = well and not any(file.urls for file in files) and not any(_look(file)[0] for file in files)
    return well and (there or not named)


def _have(files: list[File], progress: bool) -> Path:
    """The verified file, one of those that serve equally, downloaded where it is missing."""
    refused: Refusal | MissingPackage | None = None
    for file in files:
        try:
            return file.find()
        except (Refusal, MissingPackage) as why:
            refused = refused or why
    source = next((file for file in files if file.urls), None)
    if source is None or _copy(source):  # a copy comes first at loading, so a download beside a damaged one is no help
        assert refused
        raise refused
    return download(source, progress)


def _row(found: Found) -> dict[str, Any]:
    kind = found.load()
    size, where = 0, []
    for files in _by_path(kind.files).values():
        places = [(file, *_look(file)) for file in files]
        file, place, path = next((p for p in places if p[1]), places[0])
        where.append(place or "missing")
        size += path.stat().st_size if path else file.bytes
    kinds = list(dict.fromkeys(where))
    told = kinds[0] if len(kinds) == 1 else ", ".join(f"{where.count(k)} {k}" for k in kinds)
    return {"name": found.name, "summary": found.summary, "licence": kind.licence, "bytes": size, "found": told}


def _facts(file: File) -> dict[str, Any]:
    place, path = _look(file)
    return {
        "path": file.path,
        "where": place,
        "at": str(path) if path else "",
        "bytes": path.stat().st_size if path else file.bytes,
        "checksum": file.checksum,
        "urls": list(file.urls),
        "package": file.package,
        "note": file.note,
    }


def _by_path(files: Iterable[File]) -> dict[str, list[File]]:
    """Files under one path serve equally: an official one and a rebuild of it."""
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(file.path, []).append(file)
    return groups


def _look(file: File) -> tuple[str, Path | None]:
    """Where the file lies, without reading it: in the order in which `File.find` looks."""
    if copy := _copy(file):
        return "copy", copy
    if file.place.is_file():
        return "downloaded", file.place
    package, _, inside = file.package.partition(": ")[2].partition("/")
    spec = find_spec(package) if package else None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if Path(folder, inside).is_file():
            return "package", Path(folder, inside)
    return "", None


def _copy(file: File) -> Path | None:
    named = os.environ.get("RANVIER_DATA")
    path = Path(named).expanduser() / file.path if named else None
    return path if path and path.is_file() else None


def _short(licence: str) -> str:
    return re.split("[:;]", licence)[0]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size else ""
