from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from ranvier.core.checks import MissingPackage
from ranvier.data.lazy import Mapped
from ranvier.data.origin import File
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled

_SIDE, _STEPS, _BLIND, _THRESHOLD = 32, 40, 8, 0.1
_TEXTURE, _TRIES = (0.04, 0.25), 200
_DIRECTIONS, _SPEEDS = 8, (0.25, 0.5)
_MOVIES = {"train": 1600, "test": 320}
_PHOTOGRAPHS = {
    "china": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
}


class MovingImages(Labelled):
    """Natural images that move, as an event camera sees them: 1,920 movies of eight directions at two speeds.

    A window of 32x32 pixels glides over textured parts of two photographs that come with scikit-learn, at 0.25 or 0.5
    pixels a step. A pixel has an event where the logarithm of its intensity has changed by 0.1 since its last one, ON or OFF;
    what is left of the change is kept. The first 8 steps, in which the pixels find their level, are left out.
    Splits: "train" (1,600 movies, over the left 70 % of the photographs) and "test" (320, over the rest).
    Output: x[i] is [32, 2, 32, 32], ON and OFF events as 0 and 1; a movie is made when it is asked for.

    Source: A. Grimaldi and L. Perrinet 2023, section 2, with photographs and sizes of our own.

    >>> MovingImages.classes[:3]
    ('0 deg, 0.25 px', '0 deg, 0.5 px', '45 deg, 0.25 px')
    """

    licence: ClassVar[str] = "CC BY 2.0 (photographs by danielbuechele and vultilion)"
    citation: ClassVar[str] = (
        "A. Grimaldi, L. U. Perrinet. Learning heterogeneous delays in a layer of spiking neurons for fast motion "
        "detection. Biological Cybernetics 117, 2023. doi:10.1007/s00422-023-00975-8"
    )
    files: ClassVar[tuple[File, ...]] = tuple(
        File(f"photographs/{name}.jpg", checksum, package=f"scikit-learn==1.9.1: sklearn/datasets/images/{name}.jpg")
        for name, checksum in _PHOTOGRAPHS.items()
    )
    whole_numbers: ClassVar[bool] = True
    classes: ClassVar[tuple[str, ...]] = tuple(
        f"{360 * k // _DIRECTIONS} deg, {speed:g} px" for k in range(_DIRECTIONS) for speed in _SPEEDS
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def read(self, split: str) -> Samples:
        """The movies of a split; each is a function of its number."""
        first, count = (0, _MOVIES["train"]) if split == "train" else (_MOVIES["train"], _MOVIES["test"])
        number = first + np.arange(count)
        y = (number % len(self.classes)).astype(np.int64)
        paths = tuple(file.find() for file in self.files)
        for path in paths:
            _intensity(path)  # what is amiss is said now
        return Samples(Mapped(number, lambda n: _movie(paths, int(n))), y, self.classes, number)


@lru_cache(maxsize=2)
def _intensity(path: Path) -> np.ndarray:
    """The logarithm of a photograph's intensity, as a camera of limited contrast sees it."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackage("pillow", "pillow>=11") from None
    with Image.open(path) as photograph:
        grey = np.asarray(photograph.convert("L"), dtype=np.float32) / 255
    return np.log(0.1 + grey)


def _movie(paths: tuple[Path, ...], number: int) -> np.ndarray:
    generator = np.random.default_rng(number)
    motion = number % (_DIRECTIONS * len(_SPEEDS))
    angle = 2 * np.pi * (motion // len(_SPEEDS)) / _DIRECTIONS
    velocity = _SPEEDS[motion % len(_SPEEDS)] * np.array([-np.sin(angle), np.cos(angle)])  # down counts up
    # the window moves against the image
    path = -velocity * np.arange(_STEPS)[:, None]
    for _ in range(_TRIES):
        image = _intensity(paths[generator.integers(len(paths))])
        edge = round(0.7 * image.shape[1])
        image = image[:, :edge] if number < _MOVIES["train"] else image[:, edge:]
        room = np.array(image.shape) - _SIDE - 1 - np.ptp(path, axis=0)
        place = path - path.min(0) + generator.uniform(0, room)
        texture = np.abs(np.diff(_between(image, *place[0]), axis=1)).mean()
        if _TEXTURE[0] < texture < _TEXTURE[1]:
            break  # neither a blank sky, of which no motion is seen, nor leaves that all pixels see all the time
    level, events = None, np.zeros((_STEPS, 2, _SIDE, _SIDE), dtype=np.float32)
    for t, at in enumerate(place):
        seen = _between(image, *at)
        if level is None:
            level = seen.copy()
        change = seen - level
        events[t, 0], events[t, 1] = change >= _THRESHOLD, change <= -_THRESHOLD
        level += _THRESHOLD * (events[t, 0] - events[t, 1])
    return events[_BLIND:]


def _between(image: np.ndarray, row: float, column: float) -> np.ndarray:
    """The window whose corner lies at a place between pixels, by interpolation."""
    i, j = int(row), int(column)
    a, b = np.float32(row - i), np.float32(column - j)
    four = image[i : i + _SIDE + 1, j : j + _SIDE + 1]
    upper, lower = four[:-1], four[1:]
    rows = upper + a * (lower - upper)
    found: np.ndarray = rows[:, :-1] + b * (rows[:, 1:] - rows[:, :-1])
    return found
