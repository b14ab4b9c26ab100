from typing import ClassVar

import numpy as np
import torch

from ranvier.data.cache import Tensors, cached
from ranvier.data.origin import File, local
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled

_FOLDS = 5
_COPY = "har_smartwatch/seglearn_watch_50hz.npz"
_COPY_CHECKSUM = "8e73ff3dc2260593107eb1e2f07dea18ed7b7b4d484860f3e73265d0918b9202"


class Smartwatch(Labelled):
    """Shoulder exercises seen by a smartwatch: 140 recordings of 10 healthy people doing 7 exercises with either arm.

    Splits: "all", and "train0", "test0" ... "train4", "test4", where fold k tests persons 2k and 2k+1 (counted from 0)
    and trains on the other eight. `group` is the recording's number, 0 to 139, for votes over a recording.
    Output: x[i] is [T_i, 6] at 50 Hz, 947 to 2,618 steps (19 to 52 s); acceleration in g, angular velocity in rad/s.
    Classes, as the source shortens them: pendulum, abduction, forward elevation, internal and external rotation, a
    trapezius exercise and a row.

    A copy in the folder RANVIER_DATA is looked at first. Otherwise the file inside seglearn, which is a pickle, is
    verified, opened once, and kept converted in the cache; both give the same numbers to the bit.

    Source: D. Burns, N. Leung, M. Hardisty, C. Whyne, P. Henry and S. McLachlin 2018; ten of its twenty people.

    >>> test = Smartwatch().load("test0")
    >>> len(test), test.x[0].shape[1:], sorted(set(Smartwatch().people()[test.group].tolist()))
    (28, (6,), [1, 2])
    """

    licence: ClassVar[str] = "BSD-3-Clause (seglearn)"
    citation: ClassVar[str] = (
        "D. Burns, N. Leung, M. Hardisty, C. Whyne, P. Henry, S. McLachlin. Shoulder physiotherapy exercise recognition: "
        "machine learning the inertial signals from a smartwatch. Physiological Measurement 39(7), 2018. "
        "doi:10.1088/1361-6579/aacfd9"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "har_smartwatch/watch_dataset.npy",
            "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537",
            package="seglearn==1.2.5: seglearn/data/watch_dataset.npy",
        ),
    )
    classes: ClassVar[tuple[str, ...]] = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    splits: ClassVar[tuple[str, ...]] = ("all", *(f"{part}{k}" for k in range(_FOLDS) for part in ("train", "test")))

    def read(self, split: str) -> Samples:
        """The recordings of a split, in the order of the file."""
        tensors = self._tensors()
        number = _recordings(split, tensors["subject"].numpy())
        recordings = np.split(tensors["signals"].numpy(), tensors["offsets"].numpy()[1:-1])
        return Samples(
            x=[recordings[i] for i in number],
            y=tensors["labels"].numpy()[number].astype(np.int64),
            classes=self.classes,
            group=number,
            channels=("ax", "ay", "az", "wx", "wy", "wz"),
            rate=50.0,
        )

    def people(self) -> np.ndarray:
        """Who made each recording, 1 to 10, by recording number."""
        return self._tensors()["subject"].numpy().astype(np.int64)

    def _tensors(self) -> Tensors:
        copy = local(_COPY, _COPY_CHECKSUM)
        if copy is None:
            # the name holds the origin's checksum: another origin, or another conversion, must take another name
            return cached(f"smartwatch-{self.files[0].checksum[:12]}", self._convert)
        with np.load(copy, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in ("signals", "offsets", "labels", "subject")}

    def _convert(self) -> Tensors:
        # a pickle runs code as it opens; the checksum has shown that this one is seglearn's
        raw = np.load(self.files[0].find(), allow_pickle=True).item()
        lengths = [len(x) for x in raw["X"]]
        return {
            "signals": torch.from_numpy(np.concatenate(raw["X"]).astype(np.float32)),
            "offsets": torch.from_numpy(np.cumsum([0, *lengths])),
            "labels": torch.from_numpy(raw["y"].astype(np.uint8)),
            "subject": torch.from_numpy(raw["subject"].astype(np.uint8)),
        }


def _recordings(split: str, subject: np.ndarray) -> np.ndarray:
    """The numbers of the split's recordings."""
    if split == "all":
        return np.arange(len(subject))
    fold = int(split[-1])
    tested = np.isin(subject, np.unique(subject)[2 * fold : 2 * fold + 2])
    return np.flatnonzero(tested if split.startswith("test") else ~tested)
