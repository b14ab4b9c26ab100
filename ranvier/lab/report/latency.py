"""The figure of networks that stop early: accuracy against the steps that a sample takes."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from plotly import graph_objects as go

from ranvier.core.checks import Refusal
from ranvier.lab.report.theme import LIGHT, SERIES, axis, figure, line

Curves = Mapping[str, Sequence[Mapping[str, Any]]]


def latency(curves: Curves) -> go.Figure:
    """A line for each way of stopping: mean steps to the right, accuracy upwards; an oracle's is dotted.

    >>> [trace.name for trace in latency({"fixed": [{"steps": 1.0, "accuracy": 0.5}]}).data]
    ['fixed']
    """
    made = figure(
        360,
        xaxis=axis("mean steps of a sample", rangemode="tozero", showgrid=False),
        yaxis=axis("accuracy"),
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.04, "yanchor": "bottom"},
    )
    colours = iter(SERIES * len(curves))
    for name, points in curves.items():
        oracle = name.rpartition(": ")[2] == "oracle"
        colour = LIGHT["muted"] if oracle else next(colours)
        thresholds = [point.get("threshold") for point in points]
        made.add_scatter(
            x=[point["steps"] for point in points],
            y=[point["accuracy"] for point in points],
            name=escape(name),
            mode="lines+markers",
            line=line(colour, 1.5, "dot" if oracle else "solid"),
            marker={"color": colour, "size": 4},
            text=["" if c is None else f"<br>threshold {c:.3g}" for c in thresholds],
            hovertemplate="%{x:.2f} steps, accuracy %{y:.3f}%{text}<extra>%{fullData.name}</extra>",
        )
    return made


def read(path: Path) -> Curves:
    """The curves that a run left in latency.json.

    Raises: Refusal for a file that holds no such curves.
    """
    try:
        curves: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        numbers = [p[key] for points in curves.values() for p in points for key in ("steps", "accuracy")]
        numbers += [p.get("threshold") or 0.0 for points in curves.values() for p in points]
        if all(isinstance(n, int | float) for n in numbers):
            return curves
        found = "something that is no number"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
    raise Refusal(
        str(path),
        expected="curves by name, each a list of points with steps and accuracy",
        got=found,
        do="Run the recipe again, or remove the file.",
    )
