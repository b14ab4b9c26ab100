"""Pieces of a continuous recording, as batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ranvier.core.checks import Refusal
from ranvier.data.recording import Recording
from ranvier.data.samples import Batch


@dataclass(frozen=True, eq=False)
class Stretches:
    """A recording cut into stretches of `length` steps, each beginning where the one before ends; the rest is left out.

    >>> a = Stretches(Recording(x=np.zeros((100, 3), np.float32), y=np.ones((100, 1), np.float32)), 30)
    >>> batch = a.batch()
    >>> len(a), batch.x.shape, batch.y.shape
    (3, torch.Size([30, 3, 3]), torch.Size([30, 3, 1]))
    """

    recording: Recording
    length: int

    def __post_init__(self) -> None:
        if not 0 < self.length <= len(self.recording):
            raise Refusal(
                "Stretches",
                expected=f"a length of 1 to {len(self.recording)} steps, as the recording has",
                got=str(self.length),
                do="Take shorter stretches.",
            )

    def __len__(self) -> int:
        return len(self.recording) // self.length

    def batch(self, index: Sequence[int] | np.ndarray | None = None) -> Batch:
        """The stretches of these numbers, all by default: x [T, B, channels], y [T, B, targets]."""
        return self.starting(self.length * np.asarray(range(len(self)) if index is None else index, dtype=np.int64))

    def anywhere(self, index: np.ndarray, generator: torch.Generator) -> Batch:
        """As many stretches as `index` has numbers, beginning anywhere: a draw for training."""
        last = len(self.recording) - self.length
        return self.starting(torch.randint(last + 1, (len(index),), generator=generator).numpy())

    def starting(self, at: np.ndarray) -> Batch:
        """The stretches that begin at these steps."""
        steps = at + np.arange(self.length)[:, None]
        x, y = (torch.from_numpy(values[steps]) for values in (self.recording.x, self.recording.y))
        return Batch(x, y, torch.full((len(at),), self.length))

    def batches(self, size: int) -> Iterator[Batch]:
        """All stretches in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))
