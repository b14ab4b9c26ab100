"""A neuron's answer to a current that is switched on and off, as a small SVG drawing."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

import ranvier
from ranvier.lab.report.theme import COLOURS
from ranvier.nn.neurons.neuron import Neuron

STEPS, ON, OFF = 120, 20, 100
_WIDTH, _LEFT, _RIGHT, _GAP = 640, 60, 12, 26
_STYLE = "text{font:12px system-ui,sans-serif}"


def draw(neuron: Neuron) -> str:
    """Input, states and output over time, on light paper and on dark."""
    current, output, states = respond(neuron)
    main = "v" if "v" in neuron.states else next(iter(neuron.states), "")
    panels = [_Panel("input", 30, current, "muted")]
    for (name, state), course in zip(neuron.states.items(), states, strict=True):
        tall = name == main
        panels.append(_Panel(f"{name}, {state.doc}" if state.doc else name, 90 if tall else 40, course, "blue"))
    if neuron.spiking:
        panels.append(_Panel("output", 22, output, "orange", ticks=True))
    top, parts = 18.0, []
    for panel in panels:
        parts.append(panel.drawn(top))
        top += panel.height + _GAP
    bottom = top - _GAP + 6
    parts += [
        f'<text class="muted" x="{_x(t):g}" y="{bottom + 12:g}" text-anchor="middle">{t}</text>'
        for t in range(0, STEPS + 1, 20)
    ]
    parts.append(f'<text class="muted" x="{_LEFT - 8}" y="{bottom + 12:g}" text-anchor="end">step</text>')
    size = f'viewBox="0 0 {_WIDTH} {bottom + 18:g}" width="{_WIDTH}" height="{bottom + 18:g}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_style()}</style>\n{body}\n</svg>\n'


def respond(neuron: Neuron) -> tuple[list[float], list[float], list[list[float]]]:
    """The input, the output and each state of one neuron; a spiking one gets a current that makes it fire a few times."""
    found: tuple[Tensor, Tensor, list[Tensor]] | None = None
    most = -1
    for strength in (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 50.0, 100.0):
        torch.manual_seed(0)
        x = torch.zeros(STEPS, 1, 1)
        x[ON:OFF] = strength if neuron.spiking else 1.0
        with torch.no_grad(), ranvier.backend("reference"):
            y, _, recorded = ranvier.run(neuron, x, record=tuple(neuron.states))
        states = [recorded[name] for name in neuron.states]
        spikes = int((y[ON:OFF].abs() >= 0.5).sum())
        if spikes > most:
            found, most = (x, y, states), spikes
        if not neuron.spiking or spikes >= 4:
            break
    assert found is not None
    x, y, states = found
    return x.flatten().tolist(), y.flatten().tolist(), [s.flatten().tolist() for s in states]


class _Panel:
    def __init__(self, title: str, height: float, values: Sequence[float], colour: str, ticks: bool = False) -> None:
        self.title, self.height, self.values, self.colour, self.ticks = title, height, values, colour, ticks
        self.low, self.high = min(0.0, *values), max(0.0, *values)
        if all(v < 0 for v in values):  # a membrane in mV has its zero far away
            self.high = max(values)
        if self.high == self.low:
            self.high = self.low + 1.0

    def y(self, value: float, top: float) -> float:
        return top + self.height * (1 - (value - self.low) / (self.high - self.low))

    def drawn(self, top: float) -> str:
        base = self.y(max(self.low, min(0.0, self.high)), top)
        lines = [
            f'<text class="muted" x="{_LEFT}" y="{top - 5:g}">{self.title}</text>',
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>',
        ]
        if self.ticks:
            path = "".join(
                f"M{_x(t + 0.5):.1f} {base:.1f}V{self.y(v, top):.1f}" for t, v in enumerate(self.values) if v
            )
        else:
            points = [(_x(t + 0.5), self.y(v, top)) for t, v in enumerate(self.values)]
            path = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join(_step(a, b) for a, b in pairwise(points))
            for value, y in ((self.high, top + 4), (self.low, top + self.height + 4)):
                lines.append(f'<text class="muted" x="{_LEFT - 8}" y="{y:g}" text-anchor="end">{value:.3g}</text>')
        lines.append(f'<path class="{self.colour}" d="{path}"/>')
        return "\n".join(lines)


def _step(a: tuple[float, float], b: tuple[float, float]) -> str:
    """From one point to the next, level when nothing changes."""
    return f"H{b[0]:.1f}" if f"{a[1]:.1f}" == f"{b[1]:.1f}" else f"L{b[0]:.1f} {b[1]:.1f}"


def _x(step: float) -> float:
    return _LEFT + step / STEPS * (_WIDTH - _LEFT - _RIGHT)


def _style() -> str:
    used = ("muted", "rule", "blue", "orange")

    def colours(which: int) -> str:
        return "".join(
            f".{k}{{fill:none;stroke:{COLOURS[k][which]}}}text.{k}{{fill:{COLOURS[k][which]};stroke:none}}"
            for k in used
        )

    return f"{_STYLE}path{{stroke-width:1.5;stroke-linejoin:round}}{colours(0)}@media(prefers-color-scheme:dark){{{colours(1)}}}"
