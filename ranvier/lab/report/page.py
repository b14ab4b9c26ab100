"""`report.html`: one file that shows a run, opens anywhere and asks the network for nothing."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ranvier.core.files import write_text
from ranvier.lab.anatomy import activity as recorded
from ranvier.lab.report import activity, figures, latency, theme
from ranvier.lab.report.reading import read

_ROOM = 2_000_000
"""Bytes for samples: beside plotly.js the page stays below 7 MB, and those that don't fit are left out."""


def write(folder: Path) -> Path:
    """Write `folder`/report.html from the run.json and, if there are, activity.safetensors and latency.json that lie there.

    What a run did not leave is left out. Output: the page's path.
    Raises: Refusal for a folder without a run, and for files that are not what a run writes.
    """
    run = read(folder)
    path = folder / "activity.safetensors"
    samples = recorded.read(path) if path.is_file() else []
    plots = _plots(run, samples)
    if (stops := folder / "latency.json").is_file():
        plots["latency"] = [latency.latency(latency.read(stops)).to_json()]
    page = _environment().get_template("report.html")
    text = page.render(
        run=run,
        plots={name: _script(made) for name, made in plots.items()},
        samples=_examples(run, samples)[: len(plots.get("sample", []))],
        comparison=comparison(run.get("metrics", {})),
        totals=totals(run.get("layers", [])),
        rate=samples[0].rate if samples else None,
        written=figures.WRITTEN,
        colours=theme.COLOURS,
        font=Markup(theme.FONT),
        plotly=Markup(get_plotlyjs()),
    )
    write_text(folder / "report.html", text)
    return folder / "report.html"


def comparison(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Metrics by whose they are: "name: metric" is another model's, a bare metric the recipe's own network's.

    >>> comparison({"accuracy": 0.9, "forest: accuracy": 0.8})
    {'': {'accuracy': 0.9}, 'forest': {'accuracy': 0.8}}
    """
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        model, _, metric = name.rpartition(": ")
        rows.setdefault(model, {})[metric] = value
    return rows


def totals(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Over all layers: parameters, dense and effective operations, these apart as AC and MAC, and the highest rate."""
    counted = [layer["operations"] for layer in layers if layer.get("operations")]
    kinds = {kind: sum(o["effective"] for o in counted if o["kind"] == kind) for kind in ("AC", "MAC")}
    return {
        "parameters": sum(layer["parameters"] for layer in layers),
        "dense": sum(o["dense"] for o in counted),
        "effective": sum(kinds.values()),
        **kinds,
        "rate": max((layer.get("rate") or 0.0 for layer in layers), default=0.0),
    }


def _plots(run: Mapping[str, Any], samples: Sequence[recorded.Activity]) -> dict[str, list[str]]:
    plots: dict[str, list[str]] = {}
    if (made := figures.curves(run.get("curves", []))).data:
        plots["curves"] = [made.to_json()]
    if run.get("confusion"):
        plots["confusion"] = [figures.confusion(run["classes"], run["confusion"]).to_json()]
    for seen, example in zip(samples, _examples(run, samples), strict=True):
        text = activity.sample(seen, example, run.get("classes", [])).to_json()
        shown = plots.setdefault("sample", [])
        if shown and sum(map(len, shown)) + len(text) > _ROOM:
            break
        shown.append(text)
    return plots


def _script(figures: Sequence[str]) -> Markup:
    # "<" would let a class name end the script element that the figures stand in
    return Markup(f"[{','.join(figures)}]".replace("<", "\\u003c"))


def _examples(run: Mapping[str, Any], samples: Sequence[recorded.Activity]) -> list[Mapping[str, Any]]:
    known = run.get("examples", [])
    return [known[i] if i < len(known) else {} for i in range(len(samples))]


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("ranvier.lab.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(number=number, whole=whole, duration=duration, json=partial(json.dumps, ensure_ascii=False))
    return found


def number(value: float | None) -> str:
    """Four significant digits, and a dash for what there is not.

    >>> number(0.98765), number(1234567.0), number(None)
    ('0.9877', '1.235e+06', '-')
    """
    return "-" if value is None else f"{value:.4g}"


def whole(value: float) -> str:
    """A count with its thousands set apart; below ten with the decimals that it has.

    >>> whole(1234.5), whole(7.25)
    ('1\\u202f234', '7.25')
    """
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 10 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time as one reads it.

    >>> duration(3.21), duration(250), duration(7322)
    ('3.2 s', '4 min 10 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
