from typing import ClassVar

import numpy as np

from ranvier.data.events import Sensor, events
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded

_NOTE = (
    "It is the part of N-MNIST that comes with SLAYER (bamsumit/slayerPytorch, NMNISTsmall), as numpy arrays. All of "
    "N-MNIST can be downloaded: ranvier data get nmnist."
)


class NMNISTSmall(Recorded):
    """N-MNIST's first 1,000 training and 100 test recordings: digits seen by a moving ATIS camera.

    Splits: "train" (1,000) and "test" (100), of MNIST's own; `group` is the number of the image in MNIST, those of the
    test set from 60,000 on.
    Output: x[i] is [steps, 2, 34, 34], the events of a recording (about 0.3 s) counted in equal slices of its time.
    Pass `steps` for another number of slices. `events(split)` gives the events as they were recorded.

    Source: G. Orchard, A. Jayawant, G. Cohen and N. Thakor 2015; S. Shrestha and G. Orchard 2018 (SLAYER), who chose
    the part.

    >>> NMNISTSmall(steps=20).sensor.shape, NMNISTSmall.classes[7]
    ((2, 34, 34), '7')
    """

    licence: ClassVar[str] = "CC BY-SA 4.0"
    citation: ClassVar[str] = (
        "G. Orchard, A. Jayawant, G. K. Cohen, N. Thakor. Converting static image datasets to spiking neuromorphic "
        "datasets using saccades. Frontiers in Neuroscience 9:437, 2015. doi:10.3389/fnins.2015.00437"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "nmnist_small/nmnist_small_train.npz",
            "7bd49880e0b38f5a907cd9dd4e6a92e30fffdf5579d1471575509c4fe99d9543",
            note=_NOTE,
        ),
        File(
            "nmnist_small/nmnist_small_test.npz",
            "9c5203716e697fb7d3aa266af8430e3b41cc46a6f61759ebfc357f3b6adc3687",
            note=_NOTE,
        ),
    )
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    sensor: ClassVar[Sensor] = Sensor(34, 34)

    def __init__(self, steps: int = 10) -> None:
        super().__init__(steps=steps)

    def listing(self, split: str) -> Listing:
        """The recordings of a split, by the number of the image."""
        with np.load(self.files[self.splits.index(split)].find(), allow_pickle=False) as file:
            whole = events(*(file[name] for name in ("t_us", "x", "y", "p")))
            recordings = np.split(whole, file["offsets"][1:-1])
            return Listing(recordings, file["labels"], file["source_index"] - 1)

    def open(self, item: np.ndarray) -> np.ndarray:
        """The events of one recording, the caller's own."""
        return item.copy()
