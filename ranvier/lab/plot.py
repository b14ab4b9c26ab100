"""Figures for notebooks: spikes, membranes, firing rates and surrogates, in the style of the reports.

Each function returns a plotly `Figure`, which a notebook shows when it is the last value of a cell, and which
`figure.write_html("file.html")` keeps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from plotly import graph_objects as go
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.lab.report.theme import LIGHT, SERIES, axis, figure, line
from ranvier.nn.surrogates import Surrogate

__all__ = ["membrane", "raster", "rates", "surrogates"]

_LEGEND = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}


def raster(spikes: Tensor, sample: int = 0, dt: float = 1.0, unit: str = "steps") -> go.Figure:
    """A tick for every spike: time to the right, neurons upwards; negative spikes have a colour of their own.

    Input: spikes [T, N], or [T, B, ...features] of which `sample` is shown with its features in one row; dt, the time
    between two steps in `unit`. Output: a plotly Figure.
    Raises: Refusal for another number of axes, for no such sample, and for values that are not finite.

    >>> raster(torch.eye(3)).data[0].name
    '3 spikes'
    """
    values = _rows("raster", spikes, sample)
    steps, neurons = values.shape
    made = figure(
        min(max(180, 100 + 4 * neurons), 520),
        xaxis=axis(f"time ({unit})", range=[-0.5 * dt, (steps - 0.5) * dt], showgrid=False),
        yaxis=axis("neuron", range=[-1, neurons], showgrid=False, nticks=6),
        legend=_LEGEND,
        dragmode="zoom",
    )
    for sign, name, colour in ((1, "spikes", "ink"), (-1, "negative spikes", "orange")):
        step, neuron = np.nonzero(values * sign > 0)
        if sign == 1 or len(step):
            # all ticks are one line with gaps, which draws quickly and prints sharply
            x, y = (np.full((len(step), 3), np.nan, dtype=np.float32) for _ in range(2))
            x[:, :2] = (step * dt)[:, None]
            y[:, 0], y[:, 1] = neuron - 0.4, neuron + 0.4
            width = min(max(400 / steps, 1.0), 3.0) if steps else 1.0
            made.add_scatter(
                **{"x": x.ravel(), "y": y.ravel(), "mode": "lines", "line": line(LIGHT[colour], width)},
                **{"name": f"{len(step)} {name}", "showlegend": True, "hoverinfo": "skip"},
            )
    return made


def membrane(
    v: Tensor,
    spikes: Tensor | None = None,
    threshold: float | Tensor | None = None,
    sample: int = 0,
    most: int = 6,
    dt: float = 1.0,
    unit: str = "steps",
) -> go.Figure:
    """Membranes over time, with a mark where a neuron fired and a dashed line at its threshold.

    Input: v [T], [T, N], or [T, B, ...features] of which `sample` is shown, the first `most` neurons; spikes of the same
    shape; threshold, one number or one for each neuron; dt, the time between two steps in `unit`. Output: a plotly Figure.
    Raises: Refusal for another number of axes, for spikes of another shape, for thresholds that fit neither, for no such
    sample, for no neuron to draw, and for values that are not finite.

    >>> v, z = torch.tensor([[0.5], [0.0]]), torch.tensor([[0.0], [1.0]])
    >>> [trace.name for trace in membrane(v, z, threshold=1.0).data]
    ['neuron 0', 'spikes of neuron 0', 'threshold']
    """
    if spikes is not None and spikes.shape != v.shape:
        raise Refusal(
            "membrane",
            expected=f"spikes of v's shape {tuple(v.shape)}",
            got=f"{tuple(spikes.shape)}",
            do="Record both in one run: record=('spikes', 'v').",
        )
    if most < 1:
        raise Refusal("membrane", expected="a neuron or more", got=f"most={most}", do="Say how many to draw.")
    values = _rows("membrane", v[:, None] if v.ndim == 1 else v, sample)
    fired = None if spikes is None else _rows("membrane", spikes[:, None] if v.ndim == 1 else spikes, sample)
    levels = _levels(threshold, values.shape[1])
    shown = min(most, values.shape[1])
    made = figure(
        320, xaxis=axis(f"time ({unit})", showgrid=False), yaxis=axis("membrane v"), legend=_LEGEND, dragmode="zoom"
    )
    time = np.arange(len(values), dtype=np.float64) * dt
    drawn = values[:, :shown]
    top, bottom = max([float(drawn.max(initial=0.0)), *levels[:shown]]), float(drawn.min(initial=0.0))
    row = 0.06 * (top - bottom or 1.0)  # each neuron's marks have a row of their own, above all membranes
    for i in range(shown):
        style = line(SERIES[i % len(SERIES)], 1.5, "solid" if i < len(SERIES) else "dot")
        made.add_scatter(x=time, y=values[:, i], mode="lines", name=f"neuron {i}", line=style)
        if fired is not None:
            when = time[fired[:, i] != 0]
            made.add_scatter(
                **{
                    "x": when,
                    "y": np.full(len(when), top + row * (i + 1)),
                    "mode": "markers",
                    "name": f"spikes of neuron {i}",
                },
                marker={"symbol": "line-ns-open", "size": 9, "color": style["color"], "line": {"width": 1.5}},
                showlegend=False,
            )
    for i, level in enumerate(sorted(set(levels[:shown]))):
        ends = [time[0], time[-1]] if len(time) else []
        style = line(LIGHT["muted"], 1, "dash")
        made.add_scatter(x=ends, y=[level] * len(ends), mode="lines", name="threshold", line=style, showlegend=i == 0)
    return made


def rates(spikes: Mapping[str, Tensor] | Sequence[Tensor]) -> go.Figure:
    """How often neurons fire: a box for each layer over its neurons' spikes a step, and how many never fired.

    Input: what `run(..., record=("spikes",))` recorded, or the spikes of each layer, [T, B, ...features] each. Of a
    dict that also holds other variables only the spikes are taken; signed spikes count by their size.
    Output: a plotly Figure.
    Raises: Refusal for nothing to draw, for fewer than three axes, and for values that are not finite.

    >>> rates({"1.spikes": torch.ones(4, 2, 3), "1.v": torch.zeros(4, 2, 3)}).data[0].name
    '1: 3 neurons, 0 silent'
    """
    layers = dict(spikes) if isinstance(spikes, Mapping) else {f"layer {i}": z for i, z in enumerate(spikes)}
    recorded = {name.removesuffix("spikes").rstrip(".") or "model": z for name, z in layers.items() if _spiking(name)}
    layers = recorded or layers
    if not layers:
        raise Refusal("rates", expected="spikes of a layer or more", got="none", do="Record them: record=('spikes',).")
    made = figure(
        90 + 44 * len(layers),
        xaxis=axis("spikes per step and neuron", rangemode="tozero"),
        yaxis=axis(autorange="reversed", showgrid=False, automargin=True),
        showlegend=False,
        dragmode="zoom",
    )
    for i, (name, z) in enumerate(layers.items()):
        if z.ndim < 3:
            raise _wrong("rates", "[T, B, ...features]", z)
        mean = _finite("rates", z).abs().mean((0, 1)).flatten().numpy()
        title = f"{name}: {len(mean)} neurons, {int((mean == 0).sum())} silent"
        colour = SERIES[i % len(SERIES)]
        made.add_box(
            **{"x": mean, "name": title, "orientation": "h", "boxmean": True, "boxpoints": "outliers"},
            **{
                "line": {"color": colour, "width": 1.5},
                "marker": {"color": colour, "size": 3},
                "quartilemethod": "linear",
            },
        )
    return made


def surrogates(*kinds: Surrogate) -> go.Figure:
    """The slopes that stand in for the spike's derivative, over the membrane's distance from the threshold.

    Input: the surrogates; without any, all that ranvier has at their defaults. Output: a plotly Figure.
    Raises: Refusal for something that is no surrogate, such as a class in place of an instance.

    >>> from ranvier import Arctan, Triangle
    >>> [trace.name for trace in surrogates(Arctan(width=0.5), Triangle()).data]
    ['Arctan(width=0.5)', 'Triangle()']
    """
    if not kinds:
        kinds = tuple(kind() for kind in Surrogate.__subclasses__() if kind.__module__ == Surrogate.__module__)
    for kind in kinds:
        if not isinstance(kind, Surrogate):
            name = kind.__name__ if isinstance(kind, type) else type(kind).__name__
            raise Refusal("surrogates", expected="surrogates", got=repr(kind), do=f"Write {name}() for its default.")
    reach = 2 * max(kind.width for kind in kinds)
    u = torch.linspace(-reach, reach, 401, dtype=torch.float64)
    made = figure(
        360, xaxis=axis("v - threshold"), yaxis=axis("slope", rangemode="tozero"), legend=_LEGEND, dragmode="zoom"
    )
    for i, kind in enumerate(kinds):
        style = line(SERIES[i % len(SERIES)], 1.5, "solid" if i < len(SERIES) else "dot")
        made.add_scatter(x=u.numpy(), y=kind.derivative(u).numpy(), mode="lines", name=_short(kind), line=style)
    return made


def _short(kind: Surrogate) -> str:
    """The surrogate as it is written, without what is left at its default."""
    changed = [f"{f.name}={getattr(kind, f.name):g}" for f in fields(kind) if getattr(kind, f.name) != f.default]
    return f"{type(kind).__name__}({', '.join(changed)})"


def _spiking(name: str) -> bool:
    return name == "spikes" or name.endswith(".spikes")


def _rows(owner: str, values: Tensor, sample: int) -> NDArray[np.float32]:
    """One sample's values [T, N]."""
    if values.ndim < 2:
        raise _wrong(owner, "[T, N] or [T, B, ...features]", values)
    if values.ndim > 2:
        if not -values.shape[1] <= sample < values.shape[1]:
            raise Refusal(
                owner,
                expected=f"a sample of the batch, 0 to {values.shape[1] - 1}",
                got=str(sample),
                do="Choose another one.",
            )
        values = values[:, sample].flatten(1)
    rows: NDArray[np.float32] = _finite(owner, values).numpy()
    return rows


def _levels(threshold: float | Tensor | None, neurons: int) -> list[float]:
    if threshold is None:
        return []
    levels = _finite("membrane", torch.as_tensor(threshold)).flatten()
    if len(levels) not in (1, neurons):
        raise Refusal(
            "membrane",
            expected=f"one threshold, or one for each of {neurons} neurons",
            got=f"{len(levels)}",
            do="Give the neuron's own: layer.threshold.",
        )
    return levels.expand(neurons).tolist()


def _finite(owner: str, values: Tensor) -> Tensor:
    values = values.detach().to("cpu", torch.float32)
    if not bool(values.isfinite().all()):
        raise Refusal(
            owner, expected="finite numbers", got="NaN or Inf", do="Look for the step where they begin, and why."
        )
    return values


def _wrong(owner: str, expected: str, values: Tensor) -> Refusal:
    return Refusal(
        owner, expected=f"{expected}, time first", got=f"shape {tuple(values.shape)}", do="Add the missing axis."
    )
