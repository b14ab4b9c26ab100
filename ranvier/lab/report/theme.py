"""One palette for text and figures: colours that stay apart for the colour-blind, on light paper and on dark."""

from typing import Any

from plotly import graph_objects as go

COLOURS = {
    "paper": ("#ffffff", "#15181c"),
    "wash": ("#f4f6f8", "#1e2328"),
    "ink": ("#1d2127", "#e4e7eb"),
    "muted": ("#5c6670", "#98a2ad"),
    "rule": ("#dde2e7", "#333a42"),
    # Okabe and Ito's palette, lightened where it has to stand on dark
    "blue": ("#0072b2", "#5ab2ee"),
    "orange": ("#d55e00", "#f28f43"),
    "green": ("#009e73", "#35c39b"),
    "pink": ("#c1609a", "#dd93be"),
    "amber": ("#b57f00", "#e6b23c"),
    "grey": ("#a9b1ba", "#5d6771"),
    # the full end of an intensity, and writing on it
    "deep": ("#0070b0", "#1c6ea8"),
    "bright": ("#fffffe", "#f2f4f7"),
}
"""Light and dark. Figures are drawn in the light ones; the page exchanges them by this table."""

LIGHT = {name: light for name, (light, _) in COLOURS.items()}
SERIES = [LIGHT[name] for name in ("blue", "orange", "green", "pink", "amber", "ink")]
INTENSITY = [[0.0, LIGHT["wash"]], [1.0, LIGHT["deep"]]]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis of every figure: a light grid, a title, no zero line."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": LIGHT["rule"],
        "linecolor": LIGHT["rule"],
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": LIGHT["rule"],
        **more,
    }


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the page's style."""
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 64, "r": 16, "t": 32, "b": 48},
            "font": {"family": FONT, "size": 12, "color": LIGHT["muted"]},
            "paper_bgcolor": LIGHT["paper"],
            "plot_bgcolor": LIGHT["paper"],
            "hoverlabel": {"font": {"family": FONT, "color": LIGHT["ink"]}, "bgcolor": LIGHT["wash"]},
            "dragmode": False,
            **layout,
        }
    )


def line(colour: str, width: float = 1.5, dash: str = "solid") -> dict[str, Any]:
    """The style of a line that is drawn with every point it has."""
    return {"color": colour, "width": width, "dash": dash, "simplify": False}
