"""The base of the data sets: facts, and labelled sequences by split."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from ranvier.core.checks import Refusal, nearest
from ranvier.data.samples import Samples


class Dataset(ABC):
    """Recorded data with its origin: a subclass states the facts and says how one split is read.

    Adding a data set is adding one file here with one public class. `origin.local`, `origin.packaged` and `cache.cached`
    find, verify and keep its files; nothing is opened before its checksum is known to be right. Where people made the
    recordings, `people()` gives who, by the number that `group` holds, and no split may mix them.
    """

    licence: ClassVar[str]
    citation: ClassVar[str]
    source: ClassVar[str]
    """package==version and the file in it, or a URL"""
    checksum: ClassVar[str]
    """sha256 of the file that `source` names"""
    classes: ClassVar[tuple[str, ...]]
    splits: ClassVar[tuple[str, ...]]

    def load(self, split: str) -> Samples:
        """All samples of a split.

        Output: sequences [T_i, ...features], float32, in the same order every time.
        Raises: Refusal for an unknown split or a file with a wrong checksum; NonFinite naming the first bad sample.
        """
        if split not in self.splits:
            raise Refusal(
                f"{type(self).__name__} split", expected="a known one", got=repr(split), do=nearest(split, self.splits)
            )
        return self.read(split).require_finite()

    def smoke(self, split: str) -> Samples:
        """The first two samples of each class: real, shaped like all others, and few enough for a test."""
        samples = self.load(split)
        first = [np.flatnonzero(samples.y == number)[:2] for number in range(len(self.classes))]
        return samples.take(np.sort(np.concatenate(first)))

    @abstractmethod
    def read(self, split: str) -> Samples:
        """What `load` returns, for a split known to exist."""
