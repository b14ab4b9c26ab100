from typing import ClassVar

import numpy as np

from ranvier.data.origin import File
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled
from ranvier.data.ts_format import read_ts


class JapaneseVowels(Labelled):
    """Who said "ae": 640 utterances of two Japanese vowels by nine men, as twelve cepstral coefficients over time.

    Splits: "train" (270 utterances, 30 of each speaker) and "test" (370, from 24 to 88 of each), as the source made
    them. `group` is the utterance's number, the test's after those of the training. The speaker is the class, so all
    nine are shared by both splits; `people()` gives them by utterance.
    Output: x[i] is [T_i, 12], LPC cepstral coefficients of 7 to 29 frames (6.4 ms each, windows of 25.6 ms at 10 kHz).

    Source: M. Kudo, J. Toyama and M. Shimbo 1999; the copy of the UEA archive that comes with sktime.

    >>> JapaneseVowels.splits, len(JapaneseVowels.classes)
    (('train', 'test'), 9)
    """

    licence: ClassVar[str] = "BSD-3-Clause (the copy in sktime): may be redistributed with attribution"
    citation: ClassVar[str] = (
        "M. Kudo, J. Toyama, M. Shimbo. Multidimensional curve classification using passing-through regions. Pattern "
        "Recognition Letters 20(11-13), 1999. A. Bagnall et al. The UEA multivariate time series classification archive, "
        "2018. arXiv:1811.00075"
    )
    files: ClassVar[tuple[File, ...]] = tuple(
        File(
            f"time_series/JapaneseVowels_{part}.ts",
            checksum,
            package=f"sktime==1.2.0: sktime/datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts",
            bytes=size,
        )
        for part, size, checksum in (
            ("TRAIN", 487_971, "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"),
            ("TEST", 649_132, "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"),
        )
    )
    classes: ClassVar[tuple[str, ...]] = tuple("123456789")
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def read(self, split: str) -> Samples:
        """The utterances of a split, in the order of the file."""
        x, y, classes = read_ts(self.files[self.splits.index(split)].find())
        first = 0 if split == "train" else 270
        return Samples(
            x=x,
            y=y,
            classes=classes,
            group=first + np.arange(len(y)),
            channels=tuple(f"c{k}" for k in range(1, 13)),
            rate=1 / 6.4e-3,
        )

    def people(self) -> np.ndarray:
        """Who spoke, 1 to 9, by utterance number."""
        return 1 + np.concatenate([self.read(split).y for split in self.splits])
