import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.data.recording import Recording
from ranvier.data.sets.motor_cortex import MotorCortex

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in MotorCortex.files),
    reason="needs RANVIER_DATA with neural_motor_cortex/ in it",
)
BINS = 10


def history(part: Recording) -> tuple[np.ndarray, np.ndarray]:
    """The counts of ten bins up to and with each, and what is to be decoded then."""
    windows = np.lib.stride_tricks.sliding_window_view(part.x, BINS, axis=0)
    return windows.reshape(len(windows), -1), part.y[BINS - 1 :]


def test_the_recording_is_whole_and_cut_in_order_of_time() -> None:
    from scipy.io import loadmat

    train, test = MotorCortex().load("train"), MotorCortex().load("test")
    assert DATA and (len(train), len(test)) == (25_130, 6_283)
    known = loadmat(Path(DATA) / MotorCortex.files[0].path)
    x, y = np.concatenate([train.x, test.x]), np.concatenate([train.y, test.y])
    assert x.shape == (31_413, 95) and x.dtype == y.dtype == np.float32
    assert np.array_equal(x, known["Y"]) and np.array_equal(y, known["X"].astype(np.float32))
    assert train.rate == 20.0 and train.targets == ("x", "y", "vx", "vy") and len(train.channels) == 95


def test_velocity_is_ten_times_the_difference_of_positions_save_at_joints() -> None:
    y = MotorCortex().load("train").y
    assert np.isclose(10 * np.diff(y[:, :2], axis=0), y[1:, 2:], atol=1e-2).mean() == pytest.approx(0.95, abs=0.01)


def test_a_linear_decoder_reaches_what_is_known() -> None:
    (x, y), (u, v) = history(MotorCortex().load("train")), history(MotorCortex().load("test"))
    mean, middle = x.mean(0), y.mean(0)
    x -= mean
    weights = np.linalg.solve(x.T @ x + 100 * np.eye(x.shape[1]), x.T @ (y - middle))
    r2 = 1 - ((v - (u - mean) @ weights - middle) ** 2).sum(0) / ((v - v.mean(0)) ** 2).sum(0)
    assert r2 == pytest.approx([0.84, 0.80, 0.76, 0.71], abs=0.01)


def test_the_arrays_are_the_callers() -> None:
    first = MotorCortex().load("test")
    first.x[:] = 7
    assert MotorCortex().load("test").x.max() < 26 and MotorCortex().smoke("test").seconds == 10
