from typing import ClassVar

import numpy as np

from ranvier.data.origin import File
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled


class Digits(Labelled):
    """Handwritten digits: 1,797 images of 8x8 pixels that come with scikit-learn.

    Splits: "train" (1,437 images) and "test" (360), stratified, scikit-learn's
    `train_test_split(np.arange(1797), test_size=0.2, stratify=y, random_state=0)`; `group` is the image's number.
    Output: x[i] is [1, 1, 8, 8], a static image as a sequence of one step ([T, C, H, W]) with ink from 0 to 1, so that
    how often it is shown, and how it becomes spikes, is left to an encoder.

    Source: E. Alpaydin and C. Kaynak 1998, the test set of UCI's Optical Recognition of Handwritten Digits.

    >>> test = Digits().load("test")
    >>> len(test), test.x[0].shape, test.batch([0, 1]).x.shape
    (360, (1, 1, 8, 8), torch.Size([1, 2, 1, 8, 8]))
    """

    licence: ClassVar[str] = "CC BY 4.0 (UCI); the copy in scikit-learn BSD-3-Clause"
    citation: ClassVar[str] = (
        "E. Alpaydin, C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998. "
        "doi:10.24432/C50P49"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "digits/digits.csv.gz",
            "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
            package="scikit-learn==1.9.1: sklearn/datasets/data/digits.csv.gz",
        ),
    )
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def read(self, split: str) -> Samples:
        """The images of a split, in the order of the file."""
        from sklearn.model_selection import train_test_split  # half a second, needed only here

        table = np.loadtxt(self.files[0].find(), delimiter=",")
        x, y = (table[:, :64] / 16).astype(np.float32).reshape(-1, 1, 1, 8, 8), table[:, 64].astype(np.int64)
        parts = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
        chosen = np.sort(parts[self.splits.index(split)])
        return Samples(x=list(x[chosen]), y=y[chosen], classes=self.classes, group=chosen)
