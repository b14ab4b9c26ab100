from pathlib import Path
from typing import ClassVar

import numpy as np

from ranvier.data.events import Sensor, events
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded, by_class, share, unpacked


class ASLDVS(Recorded):
    """ASL-DVS: 100,800 recordings of 24 letters of American Sign Language, the hand seen by a DAVIS240C.

    Splits: "train" and "test". The authors draw 80 % for training at random and don't publish which; here the first 80 %
    of each letter in the order of the file names are for training, the rest for testing. The five people are not named
    and may be shared between the two. `group` is the recording's number, by letter and then by name.
    Output: x[i] is [steps, 2, 180, 240], the events of a recording (about 0.1 s) counted in equal slices of its time.
    Pass `steps` for another number of slices. `events(split)` gives the events.
    The letters j and z, which are movements, are not among the 24.

    Source: Y. Bi, A. Chadha, A. Abbas, E. Bourtsoulatze and Y. Andreopoulos 2019.

    >>> len(ASLDVS.classes), ASLDVS.classes[9], ASLDVS().sensor.shape
    (24, 'k', (2, 180, 240))
    """

    licence: ClassVar[str] = "not stated"
    citation: ClassVar[str] = (
        "Y. Bi, A. Chadha, A. Abbas, E. Bourtsoulatze, Y. Andreopoulos. Graph-based object classification for "
        "neuromorphic vision sensing. ICCV 2019."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "asl_dvs/ASLDVS.zip",
            "33f8b87bf45edc0bfed0de41822279b9",
            urls=("https://www.dropbox.com/sh/ibq0jsicatn7l6r/AACNrNELV56rs1YInMWUs9CAa?dl=1",),
        ),
    )
    classes: ClassVar[tuple[str, ...]] = tuple("abcdefghiklmnopqrstuvwxy")
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    sensor: ClassVar[Sensor] = Sensor(240, 180)

    def __init__(self, steps: int = 10) -> None:
        super().__init__(steps=steps)

    def listing(self, split: str) -> Listing:
        """The recordings of a split, by letter and then by name."""
        return share(split, *by_class(unpacked(self.files[0]), "mat", self.classes), train=0.8)

    def open(self, item: Path) -> np.ndarray:
        """The events of one recording; the file counts y from the bottom."""
        from scipy.io import loadmat  # a quarter of a second, needed only here

        file = loadmat(item)
        t, x, y, p = (file[name].ravel() for name in ("ts", "x", "y", "pol"))
        return events(t.astype(np.int64), x, 179 - y.astype(np.int64), p > 0)
