from typing import ClassVar

import numpy as np

from ranvier.data.origin import File
from ranvier.data.parsing import read_npz, reading
from ranvier.data.sets.dataset import Dataset
from ranvier.data.spike_trains import SpikeTrains

_NOTE = (
    "Made from spikes.mat and trajectory.videoPositionTracking in https://github.com/nelpy/example-data, with times in "
    "seconds."
)


class Hippocampus(Dataset[SpikeTrains]):
    """Place cells: spike times of units in a rat's hippocampus (CA1), and where the rat is.

    Splits: "linear-track" (31 units, 28,829 spikes, 33 min: a run, then rest) and "w-maze" (25 units, 518,352 spikes,
    73 min; unit 19, counted from 0, has 461,464 of them and probably is several). They are two recordings, not a
    training and a test set: cut each by time with `part`.
    Output: spike times in s of each unit; position [P, 2] in pixels of a camera of 640 x 480, about 60 a second; no
    scale to cm is known. `binned(0.25)` gives counts with the position at each.

    Source: Kemere lab, example data of the nelpy project.

    >>> Hippocampus.splits
    ('linear-track', 'w-maze')
    """

    licence: ClassVar[str] = "MIT (nelpy/example-data): it may be redistributed with the notice"
    citation: ClassVar[str] = (
        "E. Ackermann and the nelpy developers. Example data of nelpy, neuroelectrophysiology object model and data "
        "analysis in Python. https://github.com/nelpy/example-data, commit 099548c060."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "neural_hippocampus/nelpy_linear_track.npz",
            "d90d27db528ecd49c2f6526c652e3a22250e33bef24448a26656c61a64e14141",
            bytes=691716,
            note=_NOTE,
        ),
        File(
            "neural_hippocampus/nelpy_w_maze.npz",
            "1ef85ed0bd6c0cd7f56c07d72a2cedf217cba769cec18ffa41c0b79e30b5cf89",
            bytes=3336999,
            note=_NOTE,
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("linear-track", "w-maze")

    def read(self, split: str) -> SpikeTrains:
        """The recording, from what is first seen in it to what is last."""
        path = self.files[self.splits.index(split)].find()
        file = read_npz(path, "spike_times_s", "offsets", "tetrode", "pos_time_s", "pos_x_px", "pos_y_px")
        with reading(path):
            spikes, tracked = file["spike_times_s"], file["pos_time_s"]
            return SpikeTrains(
                times=tuple(t.copy() for t in np.split(spikes, file["offsets"][1:-1])),
                start=float(min(spikes.min(), tracked.min())),
                stop=float(max(spikes.max(), tracked.max())),
                position=np.stack([file["pos_x_px"], file["pos_y_px"]], axis=1).astype(np.float32),
                position_times=tracked,
                targets=("x", "y"),
                tetrode=file["tetrode"].astype(np.int64),
            )

    def smoke(self, split: str) -> SpikeTrains:
        """A minute, two minutes after the start."""
        whole = self.load(split)
        return whole.part(whole.start + 120, whole.start + 180)
