"""The Heidelberg spiking data sets' files: HDF5, opened where it lies, one recording at a time."""

import os
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data.events import events


class Spikes(NamedTuple):
    """One recording of a file."""

    path: Path
    number: int


def labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The class and the speaker of each recording of a file; no speakers where it states none.

    Raises: MissingPackage; Refusal for a file that is none of these.
    """
    try:
        file = _opened(path, os.getpid())
        y = file["labels"][()].astype(np.int64)
        speaker = file["extra/speaker"][()].astype(np.int64) if "extra/speaker" in file else np.zeros(0, np.int64)
    except (OSError, KeyError) as why:
        do = "Delete its folder and load it again."
        raise Refusal(str(path), expected="labels and spikes in HDF5", got=f"{why}", do=do) from why
    return y, speaker


def spikes(recording: Spikes) -> np.ndarray:
    """The events of one recording, (t in microseconds, x); the file has seconds and units."""
    file = _opened(recording.path, os.getpid())
    t = file["spikes/times"][recording.number].astype(np.float64) * 1e6
    return events(t, file["spikes/units"][recording.number])


@lru_cache(maxsize=8)
def _opened(path: Path, process: int) -> Any:
    """An open file, one for each process: HDF5 must not be shared with a process that was forked."""
    try:
        h5py = import_module("h5py")
    except ImportError:
        raise MissingPackage("h5py", "ranvier[events]") from None
    return h5py.File(path, "r")
