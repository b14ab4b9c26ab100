"""A continuous recording, and what can be decoded from it."""

from dataclasses import dataclass, replace

import numpy as np

from ranvier.core.checks import NonFinite, Refusal


@dataclass(frozen=True, eq=False)
class Recording:
    """Signals x and what happened meanwhile, y, step by step.

    Raises: Refusal where x and y differ in length or the names in number; NonFinite naming the first bad step.

    >>> a = Recording(x=np.zeros((100, 3), np.float32), y=np.ones((100, 1), np.float32), targets=("speed",), rate=20.0)
    >>> len(a), a.seconds, a.part(10, 30).x.shape
    (100, 5.0, (20, 3))
    """

    x: np.ndarray
    """[T, channels] float32"""
    y: np.ndarray
    """[T, targets] float32"""
    channels: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    rate: float | None = None
    """Steps per second, where time has a unit."""

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.y.ndim != 2 or len(self.x) != len(self.y):
            raise Refusal(
                "Recording",
                expected="x [T, channels] and y [T, targets] of the same length",
                got=f"{list(self.x.shape)} and {list(self.y.shape)}",
                do="Give one row of each for every step.",
            )
        for what, values, names in (("channels", self.x, self.channels), ("targets", self.y, self.targets)):
            if names and len(names) != values.shape[1]:
                raise Refusal(
                    f"Recording {what}",
                    expected=f"{values.shape[1]} names",
                    got=f"{len(names)}",
                    do="Name each column, or none.",
                )
            finite = np.isfinite(values)
            if not finite.all():
                step, column = np.argwhere(~finite)[0].tolist()
                name = names[column] if names else str(column)
                raise NonFinite(
                    f"Recording {what}: expected finite numbers, got NaN or Inf at step {step} of {name}. Repair it, "
                    "or leave that part out."
                )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def seconds(self) -> float | None:
        """How long it is, where time has a unit."""
        return None if self.rate is None else len(self) / self.rate

    def part(self, start: int, stop: int) -> "Recording":
        """The steps from `start` to before `stop`, copied."""
        if not 0 <= start < stop <= len(self):
            raise Refusal(
                "Recording.part",
                expected=f"0 <= start < stop <= {len(self)}",
                got=f"start={start}, stop={stop}",
                do="Count steps from the beginning.",
            )
        return replace(self, x=self.x[start:stop].copy(), y=self.y[start:stop].copy())
