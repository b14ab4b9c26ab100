from typing import ClassVar

import numpy as np

from ranvier.data.events import Sensor
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded, unpacked
from ranvier.data.spikes_h5 import Spikes, labels, spikes

_URLS = "https://zenkelab.org/datasets/", "https://compneuro.net/datasets/"
_TRAIN = 8156


class SHD(Recorded):
    """Spiking Heidelberg Digits: 10,420 spoken digits, English and German, as spikes of an artificial cochlea.

    Splits: "train" (8,156) and "test" (2,264), the authors' own. Two of the twelve speakers are only in the test set, the
    others are shared between the two. `group` is the recording's number, those of the test set from 8,156 on.
    Output: x[i] is [T_i, 700], spikes counted in slices of `window` microseconds from the beginning of the recording,
    10,000 unless said otherwise (up to 1.4 s). `events(split)` gives the spikes. Needs h5py (pip install
    'ranvier[events]').

    Source: B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke 2022.

    >>> SHD(window=4_000).sensor.shape, SHD.classes[11]
    ((700,), 'eins')
    """

    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "B. Cramer, Y. Stradmann, J. Schemmel, F. Zenke. The Heidelberg spiking data sets for the systematic evaluation "
        "of spiking neural networks. IEEE Transactions on Neural Networks and Learning Systems 33(7), 2022. "
        "doi:10.1109/TNNLS.2020.3044364"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "shd/shd_train.h5.zip",
            "f3252aeb598ac776c1b526422d90eecb",
            urls=tuple(f"{url}shd_train.h5.zip" for url in _URLS),
        ),
        File(
            "shd/shd_test.h5.zip",
            "1503a5064faa34311c398fb0a1ed0a6f",
            urls=tuple(f"{url}shd_test.h5.zip" for url in _URLS),
        ),
    )
    classes: ClassVar[tuple[str, ...]] = (
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        *("null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"),
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    sensor: ClassVar[Sensor] = Sensor(700, polarities=1)

    def __init__(self, window: int = 10_000) -> None:
        super().__init__(window=window, start=0)

    def listing(self, split: str) -> Listing:
        """The recordings of a split, in the order of the file."""
        part = self.splits.index(split)
        path = unpacked(self.files[part]) / f"shd_{split}.h5"
        y, _ = labels(path)
        return Listing([Spikes(path, i) for i in range(len(y))], y, np.arange(len(y)) + _TRAIN * part)

    def open(self, item: Spikes) -> np.ndarray:
        """The spikes of one recording."""
        return spikes(item)

    def people(self) -> np.ndarray:
        """Who spoke each recording, 0 to 11, by the number that `group` holds; needs both files."""
        train, test = (labels(unpacked(f) / f"shd_{s}.h5")[1] for f, s in zip(self.files, self.splits, strict=True))
        speaker = np.full(_TRAIN + len(test), -1)
        speaker[: len(train)], speaker[_TRAIN:] = train, test
        return speaker
