"""The figure of one real sample: its input, the spikes of every layer and some membranes over one time axis."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go

from ranvier.lab.anatomy.activity import Activity, Trace
from ranvier.lab.report.theme import INTENSITY, LIGHT, SERIES, axis, figure, line

_PANEL, _GAP, _TOP, _BOTTOM = 120, 44, 28, 52
_LINES, _ROWS, _LAYERS, _TICKS = 12, 64, 6, 5000


def sample(activity: Activity, example: Mapping[str, Any], classes: Sequence[str]) -> go.Figure:
    """The input of one sample, then spikes and membranes layer by layer, from top to bottom on one time axis."""
    names = list(dict.fromkeys(trace.layer for trace in activity.layers))
    chosen = {names[i] for i in np.linspace(0, len(names) - 1, min(_LAYERS, len(names))).round().astype(int)}
    traces = [_thinned(trace) for trace in activity.layers if trace.layer in chosen]
    stack = _Stack(activity, [_PANEL, *(_height(trace) for trace in traces)])
    _input(stack, activity)
    for trace in traces:
        title = escape(" · ".join(part for part in (trace.layer, trace.kind) if part))
        if trace.what == "spikes":
            stack.open(f"{title}: spikes{_of(trace, 'neurons')}", "neuron", showgrid=False)
            _raster(stack, trace)
        else:
            stack.open(f"{title}: membranes", "membrane v", legend=True)
            if trace is traces[-1] and trace.index == list(range(len(classes))):
                _readout(stack, trace, example, classes)
            else:
                _lines(stack, trace, [f"neuron {i}" for i in trace.index])
    return stack.figure


def _input(stack: "_Stack", activity: Activity) -> None:
    trace = activity.input
    if len(trace.values) == 1 and stack.steps > 1:
        _static(stack, activity)
    elif len(trace.index) <= _LINES:
        stack.open("input", "input", legend=True)
        known = len(activity.channels) == len(trace.index)
        _lines(stack, trace, [escape(n) for n in activity.channels] if known else [f"feature {i}" for i in trace.index])
    elif bool(((trace.values == 0) | (trace.values == 1)).all()):
        stack.open(f"input: spikes{_of(trace, 'features')}", "feature", showgrid=False)
        _raster(stack, _thinned(trace))
    else:
        trace = _every(trace, ceil(len(trace.index) / _ROWS))
        stack.open(f"input{_of(trace, 'features')}", "feature", showgrid=False)
        z = _numbers(trace.values.T)
        stack.add(go.Heatmap(z=z, y=trace.index, **stack.along(trace), colorscale=INTENSITY, colorbar=stack.scale()))


class _Stack:
    """Panels of given heights under each other, which share the time axis at the bottom."""

    def __init__(self, activity: Activity, heights: Sequence[int]) -> None:
        self.steps = max(len(t.values) for t in (activity.input, *activity.layers))
        self.rate, self.heights, self.panel = activity.rate or 1.0, heights, 0
        self.title = "time (s)" if activity.rate else "time (steps)"
        self.inner = sum(heights) + (len(heights) - 1) * _GAP
        self.top, self.bottom = 1.0, 1.0
        self.figure = figure(self.inner + _TOP + _BOTTOM, margin={"l": 64, "r": 132, "t": _TOP, "b": _BOTTOM})

    def open(self, title: str, unit: str, legend: bool = False, **axes: Any) -> None:
        """Start the next panel."""
        self.top = self.bottom - (_GAP / self.inner if self.panel else 0)
        self.bottom = max(self.top - self.heights[self.panel] / self.inner, 0)
        self.panel += 1
        last, half = self.panel == len(self.heights), 0.5 / self.rate
        time = axis(
            self.title if last else "",
            anchor=f"y{self.panel}",
            matches=None if last else f"x{len(self.heights)}",
            showticklabels=last,
            showgrid=False,
            range=[-half, self.steps / self.rate - half],
        )
        value = axis(unit, anchor=f"x{self.panel}", domain=[self.bottom, self.top], nticks=4)
        self.figure.update_layout({f"xaxis{self.panel}": time, f"yaxis{self.panel}": {**value, **axes}})
        self.figure.add_annotation(
            **{"text": title, "font": {"color": LIGHT["ink"]}, "showarrow": False, "xref": "paper", "yref": "paper"},
            **{"x": 0, "y": self.top, "xanchor": "left", "yanchor": "bottom", "yshift": 3},
        )
        if legend:
            place = {"x": 1.01, "xanchor": "left", "y": self.top, "yanchor": "top", "tracegroupgap": 0}
            self.figure.update_layout({f"legend{self.panel if self.panel > 1 else ''}": place})

    def spacing(self, trace: Trace) -> float:
        """The time between two steps of a trace: a layer behind a pooling over time makes fewer steps than the input."""
        return self.steps / max(len(trace.values), 1) / self.rate

    def along(self, trace: Trace) -> dict[str, float]:
        """Where the values of a trace lie in time."""
        return {"x0": 0.0, "dx": self.spacing(trace)}

    def scale(self) -> dict[str, Any]:
        """A colour bar beside the current panel."""
        place = {"x": 1.01, "xanchor": "left", "y": self.bottom, "yanchor": "bottom", "thickness": 8, "outlinewidth": 0}
        return {**place, "len": self.top - self.bottom, "ypad": 0, "nticks": 4}

    def add(self, trace: Any) -> None:
        """Draw in the current panel."""
        trace.update(xaxis=f"x{self.panel}", yaxis=f"y{self.panel}")
        if isinstance(trace, go.Scatter):
            trace.update(legend=f"legend{self.panel if self.panel > 1 else ''}", hovertemplate="%{y:.3g}")
        self.figure.add_trace(trace)


def _lines(stack: _Stack, trace: Trace, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        style = line(SERIES[i % len(SERIES)], 1.3, "solid" if i < len(SERIES) else "dot")
        stack.add(go.Scatter(**stack.along(trace), y=_numbers(trace.values[:, i]), name=name, line=style, mode="lines"))
    if trace.threshold is not None and len(trace.threshold):
        for i, level in enumerate(sorted(set(trace.threshold.tolist()))):
            ends = [0.0, (stack.steps - 1) / stack.rate]
            style = line(LIGHT["muted"], 1, "dash")
            stack.add(go.Scatter(x=ends, y=[level] * 2, name="threshold", showlegend=i == 0, line=style, mode="lines"))


def _readout(stack: _Stack, trace: Trace, example: Mapping[str, Any], classes: Sequence[str]) -> None:
    """One membrane a class: the true one and the predicted one stand out."""
    roles = {name: [role for role in ("true", "predicted") if example.get(role) == name] for name in classes}
    others = [i for i, name in enumerate(classes) if not roles[name]]
    for i in [*others, *(i for i in range(len(classes)) if i not in others)]:
        role = " and ".join(roles[classes[i]])
        colour = LIGHT["orange"] if role == "predicted" else LIGHT["blue"] if role else LIGHT["grey"]
        stack.add(
            go.Scatter(
                **stack.along(trace),
                y=_numbers(trace.values[:, i]),
                name=f"{escape(classes[i])}<br><i>{role}</i>" if role else "other classes",
                line=line(colour, 2 if role else 1),
                mode="lines",
                showlegend=bool(role) or i == others[0],
            )
        )


def _raster(stack: _Stack, trace: Trace) -> None:
    """A tick for each spike, all in one line with gaps, which draws quickly and prints sharply."""
    index = np.asarray(trace.index, dtype=np.float32)
    step, neuron = np.nonzero(trace.values.numpy())
    half = 0.45 * trace.neurons / max(len(index), 1)
    x, y = (np.full((len(step), 3), np.nan, dtype=np.float32) for _ in range(2))
    x[:, :2] = (step * stack.spacing(trace))[:, None]
    y[:, 0], y[:, 1] = index[neuron] - half, index[neuron] + half
    width = min(max(400 / stack.steps, 1.0), 3.0)
    ticks = go.Scatter(x=x.ravel(), y=y.ravel(), mode="lines", line=line(LIGHT["ink"], width), showlegend=False)
    stack.add(ticks)
    ticks.update(hoverinfo="skip")
    stack.figure.update_layout({f"yaxis{stack.panel}": {"range": [-half - 0.5, trace.neurons - 0.5 + half]}})


def _thinned(trace: Trace) -> Trace:
    """Fewer neurons where the spikes of all would run together into one surface."""
    return trace if trace.what == "v" else _every(trace, ceil(int((trace.values != 0).sum()) / _TICKS))


def _every(trace: Trace, stride: int) -> Trace:
    if stride <= 1:
        return trace
    return replace(trace, index=trace.index[::stride], values=trace.values[:, ::stride])


def _height(trace: Trace) -> int:
    return min(max(60, round(2.4 * len(trace.index))), 260) if trace.what == "spikes" else _PANEL


def _static(stack: _Stack, activity: Activity) -> None:
    """An input without time: a picture where it has two axes, else a bar for each feature."""
    values, (*outer, height, width) = activity.input.values[0], [1, 1, *activity.shape][-3:]
    if height > 1 and len(values) == height * width * int(np.prod(outer)):
        stack.open("input (static)", "", autorange="reversed", showgrid=False, showticklabels=False, ticks="")
        picture = _numbers(values.reshape(-1, height, width).mean(0))
        stack.add(go.Heatmap(z=picture, colorscale=INTENSITY, showscale=False, hoverinfo="z"))
        share = _PANEL * width / height / 800
    else:
        stack.open("input (static)", "input")
        stack.add(go.Bar(y=_numbers(values), marker={"color": LIGHT["blue"]}, showlegend=False))
        share = 1.0
    own = {"matches": None, "range": None, "showticklabels": False, "ticks": "", "domain": [0, min(share, 1)]}
    stack.figure.update_layout({"xaxis": own})


def _of(trace: Trace, what: str) -> str:
    shown, every = len(trace.index), trace.neurons
    return f" of {every} {what}" if shown == every else f" of {shown} of {every} {what}"


def _numbers(values: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
