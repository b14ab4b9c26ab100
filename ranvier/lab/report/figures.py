"""The figures of a report but the activity of a sample: learning curves and confusion matrix."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from plotly import graph_objects as go

from ranvier.lab.report.theme import INTENSITY, LIGHT, axis, figure, line

Row = Mapping[str, float | None]
WRITTEN = 12
"""The most classes whose numbers have room in the cells of a confusion matrix."""
_PARTS = (("train", LIGHT["blue"], "dot"), ("test", LIGHT["orange"], "solid"))


def curves(rows: Sequence[Row]) -> go.Figure:
    """Loss and accuracy by epoch: every fold thin, their mean thick.

    >>> len(curves([{"fold": 0, "epoch": 0, "train loss": 1.0}, {"fold": 0, "epoch": 1, "train loss": 0.5}]).data)
    1
    """
    panels = [what for what in ("loss", "accuracy", "R2", "rate") if any(row.get(f"{p[0]} {what}") is not None for row in rows for p in _PARTS)]  # fmt: skip
    made = figure(320, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.04, "yanchor": "bottom"})
    labelled: set[str] = set()
    width = 0.44 if len(panels) > 1 else 1.0
    for i, what in enumerate(panels, start=1):
        start = 0.0 if i == 1 else 1 - width
        made.update_layout(
            {
                f"xaxis{i}": axis("epoch", domain=[start, start + width], anchor=f"y{i}", showgrid=False),
                f"yaxis{i}": axis(what, anchor=f"x{i}", rangemode="tozero" if what == "loss" else "normal"),
            }
        )
        for part, colour, dash in _PARTS:
            folds = _by_fold(rows, f"{part} {what}")
            for points in folds.values() if len(folds) > 1 else ():
                made.add_scatter(
                    **_points(points, i), line=line(colour, 1), opacity=0.3, showlegend=False, hoverinfo="skip"
                )
            if folds:
                epochs = sorted({epoch for points in folds.values() for epoch in points})
                mean = {e: float(np.mean([p[e] for p in folds.values() if e in p])) for e in epochs}
                made.add_scatter(
                    **_points(mean, i), line=line(colour, 2, dash), name=part, showlegend=part not in labelled
                )
                labelled.add(part)
    return made


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> go.Figure:
    """What the network said by what was true: counts, and percent of the true class.

    >>> confusion(["a", "b"], [[3, 1], [0, 4]]).data[1].text
    ('3<br>75 %', '1<br>25 %', '', '4<br>100 %')
    """
    n = np.asarray(counts)
    percent = 100 * n / np.maximum(n.sum(1, keepdims=True), 1)
    names, places, written = [escape(name) for name in classes], list(range(len(classes))), len(classes) <= WRITTEN
    made = figure(
        (50 if written else 22) * len(names) + 110,
        xaxis=axis("predicted class", side="bottom", automargin=True),
        yaxis=axis("true class", range=[len(names) - 0.5, -0.5], automargin=True),
    )
    made.update_xaxes(showgrid=False, ticks="", tickmode="array", tickvals=places, ticktext=names)
    made.update_yaxes(showgrid=False, ticks="", tickmode="array", tickvals=places, ticktext=names)
    made.add_heatmap(
        z=percent,
        zmin=0,
        zmax=100,
        colorscale=INTENSITY,
        xgap=2,
        ygap=2,
        customdata=[[[int(c), a, b] for c, b in zip(row, names, strict=True)] for row, a in zip(n, names, strict=True)],
        hovertemplate="true %{customdata[1]}, predicted %{customdata[2]}<br>%{customdata[0]} samples (%{z:.1f} %)"
        "<extra></extra>",
        showscale=not written,
        colorbar={"title": {"text": "% of the true class", "side": "right"}, "thickness": 8, "outlinewidth": 0},
    )
    if written:
        colours = [LIGHT["ink" if share < 80 else "bright"] for share in percent.ravel()]
        made.add_scatter(
            x=places * len(places),
            y=[row for row in places for _ in places],
            text=[f"{c}<br>{p:.0f} %" if c else "" for c, p in zip(n.ravel(), percent.ravel(), strict=True)],
            mode="text",
            textfont={"color": colours},
            hoverinfo="skip",
            showlegend=False,
        )
    return made


def _by_fold(rows: Sequence[Row], key: str) -> dict[float, dict[float, float]]:
    folds: dict[float, dict[float, float]] = {}
    for row in rows:
        value, epoch = row.get(key), row["epoch"]
        if value is not None and epoch is not None:
            folds.setdefault(row.get("fold") or 0, {})[epoch] = value
    return folds


def _points(points: Mapping[float, float], panel: int) -> dict[str, object]:
    x = sorted(points)
    return {
        "x": x,
        "y": [points[e] for e in x],
        "xaxis": f"x{panel}",
        "yaxis": f"y{panel}",
        "mode": "lines" if len(x) > 1 else "markers",
    }
