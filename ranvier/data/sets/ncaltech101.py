from pathlib import Path
from typing import ClassVar

import numpy as np

from ranvier.data.event_files import read_events
from ranvier.data.events import Sensor
from ranvier.data.origin import File
from ranvier.data.sets._recorded import Listing, Recorded, by_class, share, unpacked

_URL = "https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49"
_CLASSES = """
BACKGROUND_Google Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai
brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body
cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar
elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone
hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly
menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino rooster
saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign strawberry
sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat windsor_chair wrench yin_yang
"""


class NCaltech101(Recorded):
    """N-Caltech101: 8,709 pictures of 100 kinds of objects and of backgrounds, seen by an ATIS camera in three saccades.

    Splits: "train" and "test". The authors state none; here the first 80 % of each class in the order of the file names
    are for training, the rest for testing. `group` is the recording's number, by class and then by name.
    Output: x[i] is [steps, 2, 180, 240], the events of a recording (about 0.3 s) counted in equal slices of its time,
    moved to the top left of the largest picture's frame. Pass `steps` for another number of slices. `events(split)`
    gives the events, so moved.

    Source: G. Orchard, A. Jayawant, G. Cohen and N. Thakor 2015.

    >>> len(NCaltech101.classes), NCaltech101.classes[-1], NCaltech101().sensor.shape
    (101, 'yin_yang', (2, 180, 240))
    """

    licence: ClassVar[str] = "CC BY 4.0"
    citation: ClassVar[str] = (
        "G. Orchard, A. Jayawant, G. K. Cohen, N. Thakor. Converting static image datasets to spiking neuromorphic "
        "datasets using saccades. Frontiers in Neuroscience 9:437, 2015. doi:10.3389/fnins.2015.00437"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "ncaltech101/N-Caltech101-archive.zip",
            "66201824eabb0239c7ab992480b50ba3",
            urls=(f"{_URL}/file_downloaded",),
        ),
    )
    classes: ClassVar[tuple[str, ...]] = tuple(_CLASSES.split())
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    sensor: ClassVar[Sensor] = Sensor(240, 180)

    def __init__(self, steps: int = 10) -> None:
        super().__init__(steps=steps)

    def listing(self, split: str) -> Listing:
        """The recordings of a split, by class and then by name."""
        return share(split, *by_class(unpacked(self.files[0]), "bin", self.classes), train=0.8)

    def open(self, item: Path) -> np.ndarray:
        """The events of one recording, the first column and row that have any at 0."""
        recording = read_events(item)[0]
        for axis in ("x", "y"):
            recording[axis] -= recording[axis].min()
        return recording
