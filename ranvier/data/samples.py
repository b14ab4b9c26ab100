"""Labelled sequences of unequal length, and the batches that networks eat."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.lazy import Mapped


class Batch(NamedTuple):
    """Sequences padded with zeros to a common length, time first."""

    x: Tensor
    """[T, B, ...]"""
    y: Tensor
    """[B] class numbers"""
    lengths: Tensor
    """[B] how many steps of each sequence are real"""


@dataclass(frozen=True)
class Samples:
    """Labelled sequences: x[i] is [T_i, ...features], y[i] its class number, group[i] whose or which recording it is.

    >>> a = Samples(x=[np.zeros((3, 2)), np.ones((2, 2))], y=np.array([0, 1]), classes=("rest", "move"))
    >>> len(a), a.batch().x.shape, a.batch().lengths.tolist()
    (2, torch.Size([3, 2, 2]), [3, 2])
    """

    x: Sequence[np.ndarray]
    y: np.ndarray
    classes: tuple[str, ...]
    group: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    channels: tuple[str, ...] = ()
    rate: float | None = None
    """Samples per second, where time has a unit."""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise Refusal(
                "Samples",
                expected="as many labels as sequences",
                got=f"{len(self.x)} sequences, {len(self.y)} labels",
                do="Give one label for each.",
            )
        if len(self.group) == 0:
            object.__setattr__(self, "group", np.arange(len(self.y)))
        elif len(self.group) != len(self.y):
            raise Refusal(
                "Samples", expected=f"{len(self.y)} groups", got=f"{len(self.group)}", do="Give one group for each."
            )
        if len(self.y) and (self.y.min() < 0 or self.y.max() >= len(self.classes)):
            raise Refusal(
                "Samples",
                expected=f"labels from 0 to {len(self.classes) - 1}, one for each class name",
                got=f"{self.y.min()} to {self.y.max()}",
                do="Number the classes from 0, and name them all.",
            )

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def joined(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All sequences one after the other [sum of T_i, ...features], where each begins, and the lengths: made once."""
        lengths = np.array([len(x) for x in self.x], dtype=np.int64)
        return np.concatenate([np.asarray(x) for x in self.x]), np.cumsum(lengths) - lengths, lengths

    def take(self, index: Sequence[int] | np.ndarray) -> "Samples":
        """The samples at `index` (numbers in any order, or one bool for each sample)."""
        index = np.arange(len(self))[np.asarray(index) if len(index) else []]
        x = self.x.take(index) if isinstance(self.x, Mapped) else [self.x[i] for i in index]
        return replace(self, x=x, y=self.y[index], group=self.group[index])

    def require_finite(self) -> "Samples":
        """Itself, or NonFinite naming the first bad sample."""
        for i, x in enumerate(self.x):
            if not np.isfinite(x).all():
                step = int(np.argwhere(~np.isfinite(x).reshape(len(x), -1).all(1))[0, 0])
                raise NonFinite(
                    f"sample {i} (class {self.classes[self.y[i]]!r}): expected finite numbers, got NaN or Inf at step {step}. Repair or drop it."
                )
        return self

    def batch(self, index: Sequence[int] | np.ndarray | None = None) -> Batch:
        """The samples at `index` (all of them by default) as one padded batch."""
        chosen = self if index is None else self.take(index)
        x, lengths = pad([torch.as_tensor(a, dtype=torch.float32) for a in chosen.x])
        return Batch(x, torch.as_tensor(chosen.y, dtype=torch.int64), lengths)

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))


class Split(NamedTuple):
    """What is learnt from and what is judged on."""

    train: Samples
    test: Samples


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences [T_i, ...] as one tensor [T, B, ...] padded with zeros at the end, and their lengths [B].

    >>> x, lengths = pad([torch.ones(2, 3), torch.ones(1, 3)])
    >>> x.shape, lengths, x[1, 1]
    (torch.Size([2, 2, 3]), tensor([2, 1]), tensor([0., 0., 0.]))
    """
    if not sequences:
        raise Refusal("pad", expected="at least one sequence", got="none", do="Skip empty batches.")
    shapes = {tuple(s.shape[1:]) for s in sequences}
    if len(shapes) > 1:
        raise Refusal(
            "pad",
            expected="the same features in every sequence",
            got=f"shapes {sorted(shapes)}",
            do="Bring them to one shape.",
        )
    lengths = [len(s) for s in sequences]
    x = torch.stack(list(sequences), 1) if len(set(lengths)) == 1 else torch.nn.utils.rnn.pad_sequence(list(sequences))
    return x, torch.tensor(lengths)


def unpad(x: Tensor, lengths: Tensor) -> list[Tensor]:
    """The sequences [T_i, ...] that `pad` made into x [T, B, ...].

    >>> [len(s) for s in unpad(*pad([torch.ones(2, 3), torch.ones(1, 3)]))]
    [2, 1]
    """
    return [x[:n, i] for i, n in enumerate(lengths.tolist())]


def windows(samples: Samples, length: int, stride: int | None = None) -> Samples:
    """Each sequence cut into windows of `length` steps; a shorter sequence gives one padded with its mean.

    The windows keep the group of their sequence, so a vote over a recording stays possible. What is left at the end
    and is shorter than a window is dropped.

    >>> a = Samples(x=[np.arange(7.0)[:, None]], y=np.array([0]), classes=("a",))
    >>> [w[:, 0].tolist() for w in windows(a, 3).x]
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    stride = length if stride is None else stride
    if length < 1 or stride < 1:
        raise Refusal(
            "windows",
            expected="a length and a stride of 1 step or more",
            got=f"{length} and {stride}",
            do="Multiply seconds by samples.rate.",
        )
    x, index = [], []
    for i, sequence in enumerate(samples.x):
        if len(sequence) == 0:
            raise Refusal(f"windows of sample {i}", expected="a step or more", got="none", do="Drop it with take.")
        if len(sequence) < length:
            fill = np.broadcast_to(sequence.mean(0), (length - len(sequence), *sequence.shape[1:]))
            sequence = np.concatenate([sequence, fill]).astype(sequence.dtype)
        for start in range(0, len(sequence) - length + 1, stride):
            x.append(sequence[start : start + length])
            index.append(i)
    return replace(samples, x=x, y=samples.y[index], group=samples.group[index])
