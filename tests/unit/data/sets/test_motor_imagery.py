import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.data.samples import Samples
from ranvier.data.sets.motor_imagery import MotorImagery

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in MotorImagery.files),
    reason="needs RANVIER_DATA with eeg_motor_imagery/ in it",
)


def test_the_epochs_are_those_of_six_runs() -> None:
    whole = MotorImagery().load("all")
    assert len(whole) == 90 and np.bincount(whole.y).tolist() == [46, 44] and whole.rate == 160.0
    assert {x.shape for x in whole.x} == {(640, 64)} and len(whole.channels) == 64
    per_run = [np.bincount(run).tolist() for run in np.split(whole.y, 6)]
    assert per_run == [[8, 7]] * 4 + [[7, 8]] * 2


def test_an_epoch_begins_at_its_cue() -> None:
    assert DATA
    with np.load(Path(DATA) / MotorImagery.files[0].path) as file:
        eeg, onset, code = file["eeg_uv"], file["onset_s"], file["code"]
    whole = MotorImagery().load("all")
    for number, (run, cue) in {0: (0, 1), 15: (1, 1), 89: (9, 29)}.items():
        start = round(float(onset[run, cue]) * 160)
        assert np.array_equal(whole.x[number], eeg[run, :, start : start + 640].T)
        assert whole.y[number] == code[run, cue] - 1
    assert max(np.abs(x).max() for x in whole.x) < 1000  # microvolt


def test_the_five_folds_test_every_epoch_once() -> None:
    tested: list[int] = []
    for k in range(5):
        train, test = MotorImagery().load(f"train{k}"), MotorImagery().load(f"test{k}")
        assert sorted([*train.group, *test.group]) == list(range(90))
        assert all(8 <= count <= 10 for count in np.bincount(test.y))
        assert np.array_equal(test.group, np.sort(test.group)) and np.ptp(test.group) < 25
        tested += [*test.group]
    assert sorted(tested) == list(range(90))


def filtered(samples: Samples) -> np.ndarray:
    """7 to 30 Hz, from half a second after the cue for two seconds."""
    from scipy.signal import butter, filtfilt

    return np.asarray(filtfilt(*butter(4, [7, 30], "band", fs=160), np.stack(samples.x), axis=1))[:, 80:400]


def test_common_spatial_patterns_tell_left_from_right_better_than_chance() -> None:
    from scipy.linalg import eigh
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    whole = MotorImagery().load("all")
    x, right = filtered(whole), 0
    for k in range(5):
        tested = np.isin(np.arange(90), MotorImagery().load(f"test{k}").group)
        covariance = [np.mean([e.T @ e / (e**2).sum() for e in x[~tested & (whole.y == c)]], axis=0) for c in (0, 1)]
        _, patterns = eigh(covariance[0], covariance[0] + covariance[1] + 1e-6 * np.eye(64))
        power = np.log((x @ patterns[:, [0, 1, 2, -3, -2, -1]]).var(1))
        decoder = LinearDiscriminantAnalysis().fit(power[~tested], whole.y[~tested])
        right += int((decoder.predict(power[tested]) == whole.y[tested]).sum())
    assert right >= 55  # of 90: above 45 + 2 standard deviations
