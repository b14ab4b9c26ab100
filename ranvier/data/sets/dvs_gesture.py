from pathlib import Path
from typing import ClassVar

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.events import Sensor, events
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded, unpacked

_PEOPLE = 29
_LIGHTS = ("fluorescent", "fluorescent_led", "lab", "led", "natural")


class DVSGesture(Recorded):
    """DVS128 Gesture: 29 people making eleven gestures of hands and arms before an event camera, in five lights.

    Splits: "train" (persons 1 to 23) and "test" (24 to 29), the authors' own; `group` is the recording's number, from
    person, light and gesture.
    Output: x[i] is [steps, 2, 128, 128], the events of a gesture (about 6 s) counted in equal slices of its time. Pass
    `steps` for another number of slices. `events(split)` gives the events, their times whole milliseconds: the files are
    those of the tonic project, where recordings are already cut into gestures.

    Source: A. Amir et al. 2017.

    >>> DVSGesture.classes[:2], DVSGesture().people()[[0, 55, 56]]
    (('hand clapping', 'right hand wave'), array([1, 2, 2]))
    """

    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "A. Amir, B. Taba, D. Berg, T. Melano, J. McKinstry, C. Di Nolfo, T. Nayak, A. Andreopoulos, G. Garreau, "
        "M. Mendoza, J. Kusnitz, M. Debole, S. Esser, T. Delbruck, M. Flickner, D. Modha. A low power, fully event-based "
        "gesture recognition system. CVPR 2017."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "dvs_gesture/ibmGestureTrain.tar.gz",
            "3a8f0d4120a166bac7591f77409cb105",
            urls=("https://figshare.com/ndownloader/files/38022171",),
        ),
        File(
            "dvs_gesture/ibmGestureTest.tar.gz",
            "56070e45dadaa85fff82e0fbfbc06de5",
            urls=("https://figshare.com/ndownloader/files/38020584",),
        ),
    )
    classes: ClassVar[tuple[str, ...]] = (
        "hand clapping",
        "right hand wave",
        "left hand wave",
        "right arm clockwise",
        "right arm counterclockwise",
        "left arm clockwise",
        "left arm counterclockwise",
        "arm roll",
        "air drums",
        "air guitar",
        "other gestures",
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    sensor: ClassVar[Sensor] = Sensor(128, 128)

    def __init__(self, steps: int = 16) -> None:
        super().__init__(steps=steps)

    def listing(self, split: str) -> Listing:
        """The gestures of a split, by person, light and gesture."""
        found = {}
        for file in unpacked(self.files[self.splits.index(split)]).rglob("*.npy"):
            person, _, light = file.parent.name.removeprefix("user").partition("_")
            if light in _LIGHTS and file.stem.isdecimal() and int(file.stem) < len(self.classes):
                recording = (int(person) - 1) * len(_LIGHTS) + _LIGHTS.index(light)
                found[recording * len(self.classes) + int(file.stem)] = file
        if not found:
            do = "Delete the unpacked folder in the cache and load it again."
            raise Refusal(self.files[0].path, expected="user*_*/*.npy", got="none", do=do)
        group = np.array(sorted(found))
        return Listing([found[i] for i in group], group % len(self.classes), group)

    def open(self, item: Path) -> np.ndarray:
        """The events of one gesture; the file's columns are x, y, p and t in milliseconds."""
        x, y, p, t = np.load(item, allow_pickle=False).T
        return events(t.astype(np.int64) * 1000, x, y, p)

    def people(self) -> np.ndarray:
        """Who made each gesture, 1 to 29, by the number that `group` holds."""
        return np.repeat(np.arange(1, _PEOPLE + 1), len(_LIGHTS) * len(self.classes))
