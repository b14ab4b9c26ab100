"""The base of the data sets: facts, and what was recorded by split."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import numpy as np

from ranvier.core.checks import Refusal, nearest
from ranvier.data.origin import File
from ranvier.data.samples import Samples

T = TypeVar("T")


class Dataset(ABC, Generic[T]):
    """Recorded data with its origin: a subclass states the facts and says how one split is read.

    Adding a data set is adding one file here with one public class. Its `files` are found, verified and downloaded by
    `origin.File`; nothing is opened before its checksum is known to be right. Where people made the recordings,
    `people()` gives who, by the number that `group` holds, and no split may mix them unless the docstring says so.
    """

    licence: ClassVar[str]
    citation: ClassVar[str]
    files: ClassVar[tuple[File, ...]]
    splits: ClassVar[tuple[str, ...]]

    def load(self, split: str) -> T:
        """All of a split, the same every time.

        Raises: Refusal for an unknown split, a file that is not there or has a wrong checksum; NonFinite naming the
        first bad sample.
        """
        if split not in self.splits:
            raise Refusal(
                f"{type(self).__name__} split", expected="a known one", got=repr(split), do=nearest(split, self.splits)
            )
        return self.read(split)

    @abstractmethod
    def read(self, split: str) -> T:
        """What `load` returns, for a split known to exist."""

    @abstractmethod
    def smoke(self, split: str) -> T:
        """A small real part of a split, shaped like the whole, few enough for a test."""


class Labelled(Dataset[Samples]):
    """Sequences [T_i, ...features] with a class each."""

    classes: ClassVar[tuple[str, ...]]
    whole_numbers: ClassVar[bool] = False
    """Kept as integers or counts, of which none is NaN: `load` then does not make every sample to look for one."""

    def load(self, split: str) -> Samples:
        """All samples of a split: sequences [T_i, ...features], float32, in the same order every time."""
        samples = super().load(split)
        return samples if self.whole_numbers else samples.require_finite()

    def smoke(self, split: str) -> Samples:
        """The first two samples of each class."""
        samples = self.load(split)
        first = [np.flatnonzero(samples.y == number)[:2] for number in range(len(self.classes))]
        return samples.take(np.sort(np.concatenate(first)))
