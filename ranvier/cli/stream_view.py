"""What `ranvier stream` shows in a terminal."""

from collections import deque
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_BLOCKS = " ▁▂▃▄▅▆▇█"
_PAST = 60
_NEAR = 40
_CLASSES = 5


class View:
    """The last report, and how decision and activity went before it."""

    def __init__(self, title: str, classes: Sequence[str]) -> None:
        self.title, self.classes = title, tuple(classes)
        self.report: Any = None
        self.confidence: deque[tuple[str | None, float]] = deque(maxlen=_PAST)
        self.rates: dict[str, deque[float]] = {}
        self.done: deque[tuple[str | None, str | None]] = deque(maxlen=_PAST)

    def take(self, report: Any) -> None:
        """The next report."""
        self.report = report
        if report.last:
            self.done.append((report.decision, report.label))
            return
        self.confidence.append((report.decision, report.confidence))
        for name, rate in report.rates.items():
            self.rates.setdefault(name, deque(maxlen=_PAST)).append(rate)

    def picture(self, totals: dict[str, Any]) -> RenderableType:
        """All of it, for now."""
        if self.report is None:
            return Text(f"{self.title}: nothing came.")
        return Group(self._head(), self._decision(), self._layers(), self._foot(totals))

    def _head(self) -> Text:
        r = self.report
        where = f"  {r.recording}  step {r.step}" + (f"  {r.seconds:.3f} s" if r.seconds is not None else "")
        return Text.assemble((self.title, "bold"), where)

    def _decision(self) -> Table:
        r = self.report
        table = Table(box=None, show_header=False, padding=(0, 1))
        label = "" if r.label is None else f" (it is {r.label})"
        colour = "green" if r.label in (None, r.decision) else "red"
        table.add_row("decision", Text.assemble((r.decision or "-", f"bold {colour}"), f" {r.confidence:.2f}{label}"))
        chances = sorted(zip(r.probabilities, self.classes, strict=False), reverse=True)[:_CLASSES]
        for chance, name in chances:
            table.add_row(Text(name, "dim"), Text(f"{'█' * round(30 * chance):<30} {chance:.2f}"))
        table.add_row("over time", Text("".join(_block(c) for _, c in self.confidence), "cyan"))
        table.add_row("", Text("".join((d or " ")[0] for d, _ in self.confidence), "dim"))
        if self.done:
            said = Text()
            for decision, true in self.done:
                said.append((decision or "-")[0], "dim" if true is None else "green" if decision == true else "red")
            table.add_row("recordings", said)
        return table

    def _layers(self) -> Table:
        table = Table("layer", "active neurons a step", "over time", box=None, padding=(0, 1), header_style="dim")
        for name, past in self.rates.items():
            most = max(past) or 1.0
            line = Text("".join(_block(rate / most) for rate in list(past)[-_NEAR:]), "magenta")
            table.add_row(name, f"{100 * past[-1]:6.2f} %", line)
        return table

    def _foot(self, totals: dict[str, Any]) -> Text:
        ms = totals["latency ms"]
        parts = [
            f"{totals['events']:,} events, {totals['events per second']:,.0f} a second",
            f"{totals['steps']:,} steps" + (f" ({totals['skipped']:,} skipped)" if totals["skipped"] else ""),
            f"latency {ms['p50']:.3g} ms, p90 {ms['p90']:.3g}, p99 {ms['p99']:.3g}",
        ]
        if totals["accuracy"] is not None:
            parts.append(f"accuracy {totals['accuracy']:.3f} on {totals['recordings']}")
        text = Text("\n".join(parts), "dim")
        if totals["dropped"]:
            dropped = ", ".join(f"{n:,} {reason}" for reason, n in totals["dropped"].items())
            text.append(f"\ndropped: {dropped}", "yellow")
        return text


def _block(share: float) -> str:
    return _BLOCKS[min(len(_BLOCKS) - 1, max(0, round(share * (len(_BLOCKS) - 1))))]
