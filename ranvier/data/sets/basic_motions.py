from typing import ClassVar

import numpy as np

from ranvier.data.origin import File
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled
from ranvier.data.ts_format import read_ts


class BasicMotions(Labelled):
    """Standing, running, walking or badminton: 80 recordings of ten seconds by a smartwatch.

    Splits: "train" and "test", 40 recordings each, 10 of a class, as the archive made them. `group` is the recording's
    number, the test's after those of the training. Four students made them, each activity five times; the file doesn't
    say who made which, so a person may be in both splits.
    Output: x[i] is [100, 6] at 10 Hz; acceleration and angular velocity, three axes each, which the file doesn't name.

    Source: a student project at the University of East Anglia, in A. Bagnall et al. 2018; the copy that comes with sktime.

    >>> BasicMotions.splits, BasicMotions.classes
    (('train', 'test'), ('Standing', 'Running', 'Walking', 'Badminton'))
    """

    licence: ClassVar[str] = "BSD-3-Clause (the copy in sktime): may be redistributed with attribution"
    citation: ClassVar[str] = (
        "A. Bagnall et al. The UEA multivariate time series classification archive, 2018. arXiv:1811.00075"
    )
    files: ClassVar[tuple[File, ...]] = tuple(
        File(
            f"time_series/BasicMotions_{part}.ts",
            checksum,
            package=f"sktime==1.2.0: sktime/datasets/data/BasicMotions/BasicMotions_{part}.ts",
            bytes=size,
        )
        for part, size, checksum in (
            ("TRAIN", 227_790, "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6"),
            ("TEST", 227_713, "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc"),
        )
    )
    classes: ClassVar[tuple[str, ...]] = ("Standing", "Running", "Walking", "Badminton")
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def read(self, split: str) -> Samples:
        """The recordings of a split, in the order of the file."""
        x, y, classes = read_ts(self.files[self.splits.index(split)].find())
        first = 0 if split == "train" else 40
        return Samples(x=x, y=y, classes=classes, group=first + np.arange(len(y)), rate=10.0)
