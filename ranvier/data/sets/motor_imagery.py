from typing import ClassVar

import numpy as np

from ranvier.data.origin import File
from ranvier.data.parsing import read_npz, reading
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled

_FOLDS = 5
_RUNS = (3, 4, 7, 8, 11, 12)
_RATE = 160
_SECONDS = 4


class MotorImagery(Labelled):
    """Left or right fist seen in the EEG: 90 epochs of 4 s on 64 channels, of one person (S001).

    The epochs are those of runs 3, 7 and 11, where the fist is moved, and 4, 8 and 12, where that is imagined; fifteen
    each, 46 left and 44 right in all. Rest and the runs with both fists or feet are left out.

    Splits: "all", and "train0", "test0" ... "train4", "test4", where fold k tests the k-th fifth of each class in order
    of time and trains on the rest. All are of the same person on the same day. `group` is the epoch's number, 0 to 89.
    Output: x[i] is [640, 64] at 160 Hz in microvolt, from the onset of the cue on, neither filtered nor referenced.

    Source: G. Schalk et al. 2004; PhysioNet's EEG Motor Movement/Imagery data set, version 1.0.0.

    >>> MotorImagery.classes, MotorImagery.splits[:3]
    (('left', 'right'), ('all', 'train0', 'test0'))
    """

    licence: ClassVar[str] = "ODC-BY 1.0: it may be redistributed with the attribution"
    citation: ClassVar[str] = (
        "G. Schalk, D. McFarland, T. Hinterberger, N. Birbaumer, J. Wolpaw. BCI2000: a general-purpose brain-computer "
        "interface system. IEEE Transactions on Biomedical Engineering 51(6), 2004. A. Goldberger et al. PhysioBank, "
        "PhysioToolkit, and PhysioNet. Circulation 101(23), 2000. doi:10.13026/C28G6P"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "eeg_motor_imagery/eegmmidb_s001_runs03_14.npz",
            "c291a0c59466531e73a77cbb2ffe93a6f48b88c59736d8b3a1b66b4a365ad823",
            bytes=17660249,
            note="Made from S001R03.edf to S001R14.edf of https://physionet.org/content/eegmmidb/1.0.0/.",
        ),
    )
    classes: ClassVar[tuple[str, ...]] = ("left", "right")
    splits: ClassVar[tuple[str, ...]] = ("all", *(f"{part}{k}" for k in range(_FOLDS) for part in ("train", "test")))

    def read(self, split: str) -> Samples:
        """The epochs of a split, in order of time."""
        path = self.files[0].find()
        file = read_npz(path, "eeg_uv", "runs", "onset_s", "code", "channel_names")
        with reading(path):
            x, y = [], []
            for run in (file["runs"].tolist().index(run) for run in _RUNS):
                for onset, code in zip(file["onset_s"][run], file["code"][run], strict=True):
                    if code > 0:  # 0 is rest
                        start = round(onset * _RATE)
                        x.append(file["eeg_uv"][run, :, start : start + _SECONDS * _RATE].T.astype(np.float32))
                        y.append(int(code) - 1)
            whole = Samples(
                x=x,
                y=np.array(y, dtype=np.int64),
                classes=self.classes,
                channels=tuple(str(name) for name in file["channel_names"]),
                rate=float(_RATE),
            )
        return whole.take(_epochs(split, whole.y))


def _epochs(split: str, y: np.ndarray) -> np.ndarray:
    """The numbers of the split's epochs."""
    if split == "all":
        return np.arange(len(y))
    fifths = [np.array_split(np.flatnonzero(y == number), _FOLDS)[int(split[-1])] for number in (0, 1)]
    tested = np.isin(np.arange(len(y)), np.concatenate(fifths))
    return np.flatnonzero(tested if split.startswith("test") else ~tested)
