from pathlib import Path
from typing import ClassVar

import numpy as np

from ranvier.data.event_files import read_events
from ranvier.data.events import Sensor
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded, by_class, unpacked

_URL = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"


class NMNIST(Recorded):
    """N-MNIST: MNIST's 70,000 digits on a screen, seen by an ATIS camera that moves in three saccades.

    Splits: "train" (60,000) and "test" (10,000), MNIST's own; `group` is the number of the image in MNIST, those of the
    test set from 60,000 on.
    Output: x[i] is [steps, 2, 34, 34], the events of a recording (about 0.3 s) counted in equal slices of its time.
    Pass `steps` for another number of slices. `events(split)` gives the events as they were recorded.

    Source: G. Orchard, A. Jayawant, G. Cohen and N. Thakor 2015.

    >>> NMNIST(steps=20).sensor.shape, NMNIST.classes[7]
    ((2, 34, 34), '7')
    """

    licence: ClassVar[str] = "CC BY-SA 4.0"
    citation: ClassVar[str] = (
        "G. Orchard, A. Jayawant, G. K. Cohen, N. Thakor. Converting static image datasets to spiking neuromorphic "
        "datasets using saccades. Frontiers in Neuroscience 9:437, 2015. doi:10.3389/fnins.2015.00437"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "nmnist/train.zip",
            "20959b8e626244a1b502305a9e6e2031",
            urls=(f"{_URL}39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",),
        ),
        File(
            "nmnist/test.zip",
            "69ca8762b2fe404d9b9bad1103e97832",
            urls=(f"{_URL}05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
        ),
    )
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    sensor: ClassVar[Sensor] = Sensor(34, 34)

    def __init__(self, steps: int = 10) -> None:
        super().__init__(steps=steps)

    def listing(self, split: str) -> Listing:
        """The recordings of a split, by the number of the image."""
        number = self.splits.index(split)
        files, y = by_class(unpacked(self.files[number]), "bin", self.classes)
        image = np.array([int(file.stem) - 1 for file in files])  # the files count from 1
        order = np.argsort(image, kind="stable")
        return Listing([files[i] for i in order], y[order], image[order] + 60_000 * number)

    def open(self, item: Path) -> np.ndarray:
        """The events of one recording."""
        return read_events(item)[0]
