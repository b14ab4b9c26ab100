from pathlib import Path
from typing import ClassVar

import numpy as np

from ranvier.data.event_files import read_events
from ranvier.data.events import Sensor
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded, by_class, share, unpacked


class CIFAR10DVS(Recorded):
    """CIFAR10-DVS: 10,000 CIFAR-10 images moving on a screen, seen by a DVS128.

    Splits: "train" and "test". The authors state none; here the first 90 % of each class in the order of the file names
    (as text, so _10 comes before _2) are for training and the rest for testing, as is usual. `group` is the recording's
    number, by class and then by name.
    Output: x[i] is [steps, 2, 128, 128], the events of a recording (about 1.3 s) counted in equal slices of its time.
    Pass `steps` for another number of slices. `events(split)` gives the events. The files are those of the tonic project,
    in AEDAT4; they are read faster with the package lz4 (pip install 'ranvier[events]').

    Source: H. Li, H. Liu, X. Ji, G. Li and L. Shi 2017.

    >>> CIFAR10DVS(steps=4).sensor.shape, CIFAR10DVS.classes[3]
    ((2, 128, 128), 'cat')
    """

    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "H. Li, H. Liu, X. Ji, G. Li, L. Shi. CIFAR10-DVS: an event-stream dataset for object classification. "
        "Frontiers in Neuroscience 11:309, 2017. doi:10.3389/fnins.2017.00309"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "cifar10_dvs/CIFAR10DVS.zip",
            "ce3a4a0682dc0943703bd8f749a7701c",
            urls=("https://figshare.com/ndownloader/files/38023437",),
        ),
    )
    classes: ClassVar[tuple[str, ...]] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    sensor: ClassVar[Sensor] = Sensor(128, 128)

    def __init__(self, steps: int = 10) -> None:
        super().__init__(steps=steps)

    def listing(self, split: str) -> Listing:
        """The recordings of a split, by class and then by name."""
        return share(split, *by_class(unpacked(self.files[0]), "aedat4", self.classes), train=0.9)

    def open(self, item: Path) -> np.ndarray:
        """The events of one recording."""
        return read_events(item)[0]
