from typing import ClassVar

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.origin import File
from ranvier.data.parsing import reading
from ranvier.data.recording import Recording
from ranvier.data.sets.dataset import Dataset


class MotorCortex(Dataset[Recording]):
    """Motor cortex during reaching: spike counts on 95 channels and where the hand is, in 31,413 steps of 50 ms.

    Splits: "train" (the first 25,130 steps, 80 %) and "test" (the last 6,283), in order of time.
    Output: x is [T, 95], spikes in each bin of 50 ms (20 Hz); y is [T, 4], position and velocity of the hand in two
    directions. The source states neither units nor species. Where the velocity is the difference of two positions, at
    95 % of the steps, it is ten times it; at the others the position jumps, so the recording was joined from pieces.

    Source: course data of BME 517, University of Michigan, in N. Matton's repository NeuralSignalDecoding.

    >>> MotorCortex.splits, MotorCortex.targets
    (('train', 'test'), ('x', 'y', 'vx', 'vy'))
    """

    licence: ClassVar[str] = "not stated by the source: for research; it may not be passed on"
    citation: ClassVar[str] = (
        "Cortical spike counts and hand kinematics during centre-out reaching: course data of BME 517, University of "
        "Michigan, as in N. Matton, NeuralSignalDecoding, https://github.com/nickmatton/NeuralSignalDecoding, commit "
        "9b750df50b."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "neural_motor_cortex/contdata95.mat",
            "ccf8fd483935ec420b8939bbbc4097fc135f68cbf8b163f1b75ddde1e81e0c37",
            bytes=1876471,
            note="It is contdata95.mat in https://github.com/nickmatton/NeuralSignalDecoding, which states no licence.",
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    targets: ClassVar[tuple[str, ...]] = ("x", "y", "vx", "vy")

    def read(self, split: str) -> Recording:
        """The steps of a split."""
        from scipy.io import loadmat  # half a second, needed only here
        from scipy.io.matlab import MatReadError

        path = self.files[0].find()
        with reading(path):
            try:
                file = loadmat(path, variable_names=("X", "Y"))
            except (MatReadError, NotImplementedError) as why:
                raise ValueError(str(why)) from why
            x, y = file["Y"].astype(np.float32), file["X"].astype(np.float32)
        if x.shape[1] != 95 or y.shape[1] != 4:
            raise Refusal(
                path.name,
                expected="Y [T, 95] and X [T, 4]",
                got=f"{list(x.shape)} and {list(y.shape)}",
                do="Copy it anew from where it comes from.",
            )
        whole = Recording(x=x, y=y, channels=tuple(f"unit {i}" for i in range(95)), targets=self.targets, rate=20.0)
        border = len(whole) * 4 // 5
        return whole.part(0, border) if split == "train" else whole.part(border, len(whole))

    def smoke(self, split: str) -> Recording:
        """The first 200 steps, ten seconds."""
        return self.load(split).part(0, 200)
