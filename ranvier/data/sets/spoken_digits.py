from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from ranvier.data.lazy import Mapped
from ranvier.data.origin import File
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled

_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
_PARTS = ("train", "test")


class SpokenDigits(Labelled):
    """Spoken digits: 3,000 recordings of ten English words by six people, the Free Spoken Digit Dataset.

    Splits: "train" (2,700 recordings) and "test" (300), the official ones: of the 50 times that each person says each
    digit, the first five are tested, so the speakers are shared by both. "train-NAME" (2,500) and "test-NAME" (500)
    leave one speaker out of the training: george, jackson, lucas, nicolas, theo or yweweler. `group` is the recording's
    number, 0 to 2,999; `people()` gives its speaker.
    Output: x[i] is [T_i, 1], the sound pressure from -1 to 1 at 8 kHz, 1,148 to 18,262 steps (0.14 to 2.3 s).
    Recordings stay 16-bit integers until they are asked for.

    Source: Z. Jackson, C. Souza, J. Flaks, Y. Pan, H. Nicolas and A. Thite 2018.

    >>> SpokenDigits.splits[:4], len(SpokenDigits.classes)
    (('train', 'test', 'train-george', 'test-george'), 10)
    """

    licence: ClassVar[str] = "CC BY-SA 4.0: may be redistributed under the same licence, with attribution"
    citation: ClassVar[str] = (
        "Z. Jackson, C. Souza, J. Flaks, Y. Pan, H. Nicolas, A. Thite. Jakobovski/free-spoken-digit-dataset: v1.0.8, 2018. "
        "doi:10.5281/zenodo.1342401"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "fsdd/fsdd_8khz_int16.npz",
            "39adf5ad8c88c83c5688e5d1b7dba135e467bede994bedc5864fe143a6b3c206",
            bytes=15_427_070,
            note="It joins all recordings of https://github.com/Jakobovski/free-spoken-digit-dataset, which publishes them "
            "one by one and without checksums, so it can't be downloaded here.",
        ),
    )
    whole_numbers: ClassVar[bool] = True
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    splits: ClassVar[tuple[str, ...]] = (
        *_PARTS,
        *(f"{part}-{name}" for name in _SPEAKERS for part in _PARTS),
    )

    def read(self, split: str) -> Samples:
        """The recordings of a split, in the order of the file."""
        part, _, name = split.partition("-")
        samples, offsets, labels, speaker, index = _arrays(self.files[0].find(), self.files[0].checksum)
        tested = speaker == _SPEAKERS.index(name) if name else index < 5
        number = np.flatnonzero(tested if part == "test" else ~tested)
        recordings = [samples[offsets[i] : offsets[i + 1]] for i in number]
        return Samples(
            x=Mapped(recordings, _pressure),
            y=labels[number].astype(np.int64),
            classes=self.classes,
            group=number,
            channels=("pressure",),
            rate=8000.0,
        )

    def people(self) -> np.ndarray:
        """Who spoke, 1 to 6 in the order of the splits, by recording number."""
        speaker = _arrays(self.files[0].find(), self.files[0].checksum)[3]
        return 1 + speaker.astype(np.int64)


@lru_cache(maxsize=1)  # the fourteen splits share one array of 21 MB; what is given out are copies
def _arrays(path: Path, checksum: str) -> tuple[np.ndarray, ...]:
    """`path` is verified before each call; the checksum makes other contents another entry."""
    with np.load(path, allow_pickle=False) as file:
        return tuple(file[name] for name in ("samples", "offsets", "labels", "speaker", "index"))


def _pressure(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float32) / np.float32(32768))[:, None]
