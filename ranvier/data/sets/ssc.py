from typing import ClassVar

import numpy as np

from ranvier.data.events import Sensor
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded, unpacked
from ranvier.data.spikes_h5 import Spikes, labels, spikes

_URLS = "https://zenkelab.org/datasets/", "https://compneuro.net/datasets/"
_BEFORE = {"train": 0, "valid": 75_466, "test": 85_447}
_CLASSES = """
backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one right
seven sheila six stop three tree two up visual wow yes zero
"""


class SSC(Recorded):
    """Spiking Speech Commands: 105,829 spoken words of 35 kinds, as spikes of an artificial cochlea.

    Splits: "train" (75,466), "valid" (9,981) and "test" (20,382), the authors' own. `group` is the recording's number:
    those of "valid" follow "train", those of "test" follow "valid".
    Output: x[i] is [T_i, 700], spikes counted in slices of `window` microseconds from the beginning of the recording,
    10,000 unless said otherwise (about 1 s). `events(split)` gives the spikes. Needs h5py (pip install
    'ranvier[events]'). Class numbers are the file's.

    Source: B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke 2022, from P. Warden's Speech Commands 0.2 (2018).

    >>> SSC(window=4_000).sensor.shape, len(SSC.classes)
    ((700,), 35)
    """

    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "B. Cramer, Y. Stradmann, J. Schemmel, F. Zenke. The Heidelberg spiking data sets for the systematic evaluation "
        "of spiking neural networks. IEEE Transactions on Neural Networks and Learning Systems 33(7), 2022. "
        "doi:10.1109/TNNLS.2020.3044364"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "ssc/ssc_train.h5.zip",
            "d102be95e7144fcc0553d1f45ba94170",
            urls=tuple(f"{url}ssc_train.h5.zip" for url in _URLS),
        ),
        File(
            "ssc/ssc_valid.h5.zip",
            "b4eee3516a4a90dd0c71a6ac23a8ae43",
            urls=tuple(f"{url}ssc_valid.h5.zip" for url in _URLS),
        ),
        File(
            "ssc/ssc_test.h5.zip",
            "a35ff1e9cffdd02a20eb850c17c37748",
            urls=tuple(f"{url}ssc_test.h5.zip" for url in _URLS),
        ),
    )
    classes: ClassVar[tuple[str, ...]] = tuple(_CLASSES.split())
    splits: ClassVar[tuple[str, ...]] = ("train", "valid", "test")
    sensor: ClassVar[Sensor] = Sensor(700, polarities=1)

    def __init__(self, window: int = 10_000) -> None:
        super().__init__(window=window, start=0)

    def listing(self, split: str) -> Listing:
        """The recordings of a split, in the order of the file."""
        path = unpacked(self.files[self.splits.index(split)]) / f"ssc_{split}.h5"
        y, _ = labels(path)
        return Listing([Spikes(path, i) for i in range(len(y))], y, np.arange(len(y)) + _BEFORE[split])

    def open(self, item: Spikes) -> np.ndarray:
        """The spikes of one recording."""
        return spikes(item)
