"""A recipe: one system with its data, its training and the claims that must hold."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Literal

from torch import Tensor, nn

from ranvier.data.samples import Samples, Split

_COMPARE = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Claim:
    """A metric, a comparison and a bound, with where the bound comes from.

    With `beside`, what is compared is the metric's margin over that other metric.

    >>> Claim("accuracy", ">=", 0.9, "our own target").check({"accuracy": 0.93})
    (0.93, True)
    """

    metric: str
    comparison: Literal[">=", "<="]
    bound: float
    origin: str
    beside: str | None = None

    def __str__(self) -> str:
        margin = f" minus {self.beside}" if self.beside else ""
        return f"{self.metric}{margin} {self.comparison} {self.bound:g}"

    def check(self, metrics: Mapping[str, float]) -> tuple[float, bool]:
        """What was measured, and whether it holds."""
        measured = metrics[self.metric] - (metrics[self.beside] if self.beside else 0.0)
        return measured, bool(_COMPARE[self.comparison](measured, self.bound))


@dataclass(frozen=True)
class Session:
    """How one run is made: its seed, where it writes, and the machine it may use."""

    folder: Path
    seed: int = 0
    accelerator: str = "auto"
    devices: str | int = "auto"
    precision: str = "32-true"
    progress: bool = True
    stop: Event = field(default_factory=Event)
    """Set when the user asks to stop: training ends after the current batch, and what there is is kept."""
    every: float = 60.0
    """Seconds between checkpoints inside an epoch; there is one after most epochs as well, and one when stopped."""
    resume: bool = False
    """Go on from what lies in the folder: finished networks are read, the current one continues at its checkpoint."""
    loggers: tuple[str, ...] = ()
    """Where epochs are logged besides the run's own files: tensorboard, csv, wandb, mlflow."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's settings, for loggers."""
    on_epoch: Callable[[str, Mapping[str, float]], None] | None = None
    """Called after every epoch with the network's name and its row; it may set `stop`."""


@dataclass
class Result:
    """What a run found; everything the report shows is here or in the session's folder."""

    metrics: dict[str, float]
    curves: list[dict[str, float]] = field(default_factory=list)
    """One row an epoch: fold, epoch, train loss, train accuracy, test loss, test accuracy."""
    classes: tuple[str, ...] = ()
    confusion: list[list[int]] = field(default_factory=list)
    """Rows are true classes, columns what the network said, over all test samples."""
    seconds: dict[str, float] = field(default_factory=dict)
    model: nn.Module | None = None
    examples: Samples | None = None
    """A few test samples that the report runs through `model`."""
    interrupted: bool = False
    waiting: dict[str, float] = field(default_factory=dict)
    """Seconds that training batches took (busy), and of these in which data were waited for (waiting)."""


Scores = Tensor
"""[samples, classes], larger is likelier."""


@dataclass(frozen=True)
class Recipe:
    """A system that can be run and judged.

    `model` makes a fresh network, `data` gives fold number k, `fit` trains and measures, `claims` must hold for the
    mean over `seeds`, `source` says whose system it is. `validation` gives fold k's train part alone, cut into what is
    learnt from and what is judged on, for whoever chooses settings.
    """

    model: Callable[[], nn.Module]
    data: Callable[[int], Any]
    """A Split of samples for Classify, two recordings for Decode."""
    fit: Callable[["Recipe", Session], Result]
    claims: tuple[Claim, ...]
    source: str
    seeds: tuple[int, ...] = (0, 1, 2)
    validation: Callable[[int], Split] | None = None


def settings(function: Callable[..., Recipe], given: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments of a recipe's function from the text a user gave for them.

    Raises: Refusal for a name that the recipe does not have, or a text that is no such value.
    """
    from inspect import signature

    from ranvier.core.checks import Refusal, nearest

    known = signature(function).parameters
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise Refusal("setting", expected="a setting of this recipe", got=repr(name), do=nearest(name, known))
        kind = known[name].annotation
        try:
            values[name] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            raise Refusal(
                f"setting {name}",
                expected=f"a value of type {kind.__name__}",
                got=repr(text),
                do=f"The default is {known[name].default!r}.",
            ) from None
    return values
