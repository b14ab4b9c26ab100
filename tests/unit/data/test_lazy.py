import pickle

import numpy as np
import pytest

from ranvier.data.lazy import Mapped, unit
from ranvier.data.samples import Samples

BYTES = np.arange(24, dtype=np.uint8).reshape(4, 1, 6)


def test_items_are_made_anew_each_time() -> None:
    x = Mapped(BYTES, unit)
    x[0][:] = 7
    assert np.array_equal(x[0], unit(BYTES[0])) and np.array_equal(x[-1], unit(BYTES[3]))
    with pytest.raises(IndexError):
        x[4]


def test_it_is_a_sequence() -> None:
    x = Mapped(BYTES, unit)
    assert len(x) == 4 and len(list(x)) == 4 and np.array_equal(np.stack(x), unit(BYTES))
    assert np.array_equal(x[1:3][1], x[2])
    assert np.array_equal(pickle.loads(pickle.dumps(x))[2], x[2])  # as on the way to a worker process


def test_samples_take_from_it() -> None:
    samples = Samples(x=Mapped(list(BYTES), unit), y=np.array([0, 1, 0, 1]), classes=("a", "b"))
    taken = samples.require_finite().take([2, 0])
    assert np.array_equal(taken.x[0], unit(BYTES[2])) and taken.group.tolist() == [2, 0]
    assert samples.batch([1, 3]).x.shape == (1, 2, 6)
