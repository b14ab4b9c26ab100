"""The base of the data sets of events: files listed when loaded, read and binned into frames when asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ranvier.core.checks import Refusal, nearest
from ranvier.data.cache import cache_folder
from ranvier.data.download import unpack
from ranvier.data.events import Sensor, frames, time_order
from ranvier.data.lazy import Mapped
from ranvier.data.origin import File
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled


class Listing(NamedTuple):
    """The recordings of a split."""

    items: Sequence[Any]
    """what `open` takes"""
    y: np.ndarray
    group: np.ndarray


class Recorded(Labelled):
    """Recordings of events with a class each: a subclass lists those of a split and says how one is opened."""

    sensor: ClassVar[Sensor]
    whole_numbers: ClassVar[bool] = True

    def __init__(self, **binning: int) -> None:
        for name, value in binning.items():
            if value < 0 or (value < 1 and name != "start"):
                got = f"{name}={value}"
                raise Refusal(type(self).__name__, expected="1 or more", got=got, do="Correct it.")
        self.binning = binning

    @abstractmethod
    def listing(self, split: str) -> Listing:
        """The recordings of a split known to exist."""

    @abstractmethod
    def open(self, item: Any) -> np.ndarray:
        """The events of one recording."""

    def read(self, split: str) -> Samples:
        """What `load` returns, for a split known to exist."""
        items, y, group = self.listing(split)
        return Samples(Mapped(items, self.frames), y.astype(np.int64), self.classes, group.astype(np.int64))

    def events(self, split: str) -> Sequence[np.ndarray]:
        """The events of each recording of a split, (t, x, y, p), read as they are asked for.

        Raises: as `load`.
        """
        if split not in self.splits:
            do, name = nearest(split, self.splits), type(self).__name__
            raise Refusal(f"{name} split", expected="a known one", got=repr(split), do=do)
        return Mapped(self.listing(split).items, self.open)

    def frames(self, item: Any) -> np.ndarray:
        """One recording's events, counted."""
        return frames(time_order(self.open(item)), self.sensor, **self.binning)


def unpacked(file: File) -> Path:
    """The folder that holds what is in an archive, and in the archives inside it, once its checksum is known to be right.

    It is unpacked into the cache once; after that the archive is needed no more.
    """
    folder = cache_folder() / "unpacked" / f"{Path(file.path).name.partition('.')[0]}-{file.checksum[:12]}"
    if not folder.is_dir():
        unpack(file.find(), folder)
    for inner in sorted(folder.rglob("*.zip")):
        if not inner.with_suffix("").is_dir():
            unpack(inner, inner.with_suffix(""))
        inner.unlink()
    return folder


def by_class(folder: Path, kind: str, classes: tuple[str, ...]) -> tuple[list[Path], np.ndarray]:
    """The files inside folders that are named like their class, by class and then by name; and their classes' numbers.

    Raises: Refusal for a class without a file.
    """
    number = {name: i for i, name in enumerate(classes)}
    files = [file for file in folder.rglob(f"*.{kind}") if file.parent.name in number and not file.name.startswith(".")]
    files.sort(key=lambda file: (number[file.parent.name], file.name))
    y = np.array([number[file.parent.name] for file in files], dtype=np.int64)
    empty = [name for i, name in enumerate(classes) if not (y == i).any()]
    if empty:
        do = f"Delete {folder} and load it again."
        raise Refusal(str(folder), expected=f".{kind} files of each class", got=f"none of {', '.join(empty)}", do=do)
    return files, y


def share(split: str, files: list[Path], y: np.ndarray, train: float) -> Listing:
    """The first share of each class for training, the rest for testing; the group is a file's number among all."""
    chosen = []
    for number in range(int(y.max()) + 1):
        own = np.flatnonzero(y == number)
        cut = round(train * len(own))
        chosen.append(own[:cut] if split == "train" else own[cut:])
    group = np.concatenate(chosen)
    return Listing([files[i] for i in group], y[group], group)
