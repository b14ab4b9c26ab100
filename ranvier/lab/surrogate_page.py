"""The drawings of docs/concepts/surrogates.md: `python -m ranvier.lab.surrogate_page docs` writes one a surrogate."""

import sys
from pathlib import Path

import torch

from ranvier.core.files import write_text
from ranvier.lab.report.theme import COLOURS
from ranvier.nn import surrogates
from ranvier.nn.surrogates import Surrogate

RENEW = "python -m ranvier.lab.surrogate_page docs"
FOLDER = Path("concepts", "surrogates")

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _REACH, _POINTS = 320, 150, 34, 12, 34, 2.0, 161
_TOPMOST = 1.05
_USED = ("muted", "rule", "blue", "orange")


def kinds() -> dict[str, type[Surrogate]]:
    """The surrogates by the name of their drawing.

    >>> list(kinds())[:2]
    ['arctan', 'sigmoid']
    """
    own = (k for k in Surrogate.__subclasses__() if k.__module__ == surrogates.__name__)
    return {kind.__name__.lower(): kind for kind in own}


def draw(surrogate: Surrogate) -> str:
    """Its smooth step and its slope over the distance from the threshold, on light paper and on dark."""
    u = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    base = _y(0.0)
    lines = [
        f'<line class="rule" x1="{_x(-_REACH):g}" x2="{_x(_REACH):g}" y1="{base:g}" y2="{base:g}"/>',
        f'<line class="rule" x1="{_x(0.0):g}" x2="{_x(0.0):g}" y1="{_TOP}" y2="{base:g}"/>',
        *(_text(str(at), _x(at), base + 15) for at in (-2, -1, 0, 1, 2)),
        *(_text(str(level), _LEFT - 8, _y(level) + 4, "end") for level in (0, 1)),
        _text("v - threshold", _x(0.0), base + 30),
    ]
    for colour, values in (("blue", surrogate.primitive(u)), ("orange", surrogate.derivative(u))):
        points = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(u.tolist(), values.tolist(), strict=True))
        lines.append(f'<polyline class="{colour}" points="{points}"/>')
    body = "\n".join(lines)
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_style()}</style>\n{body}\n</svg>\n'


def write(folder: Path) -> None:
    """Write one drawing a surrogate under `folder`, which is docs."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, kind in kinds().items():
        write_text(folder / FOLDER / f"{name}.svg", draw(kind()))


def _text(text: str, x: float, y: float, anchor: str = "middle") -> str:
    return f'<text class="muted" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text}</text>'


def _x(u: float) -> float:
    return _LEFT + (u + _REACH) / (2 * _REACH) * (_WIDTH - _LEFT - 8)


def _y(value: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - value / _TOPMOST)


def _style() -> str:
    def colours(which: int) -> str:
        return "".join(f".{k}{{stroke:{COLOURS[k][which]}}}text.{k}{{fill:{COLOURS[k][which]}}}" for k in _USED)

    common = "text{font:12px system-ui,sans-serif;stroke:none!important}polyline{fill:none;stroke-width:1.5}"
    return f"{common}{colours(0)}@media(prefers-color-scheme:dark){{{colours(1)}}}"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
