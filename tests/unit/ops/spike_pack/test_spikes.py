"""Events stand for the dense tensor that counts them."""

import pytest
import torch

from ranvier.core.checks import Refusal
from ranvier.ops.spike_pack.spikes import Spikes


def events(number=200, shape=(5, 3, 20)):
    return [torch.randint(size, (number,)) for size in shape]


def counted(columns, shape):
    x = torch.zeros(shape)
    return x.index_put_(tuple(columns), torch.ones(()), accumulate=True)


def test_events_in_any_order_are_counted():
    shape = (5, 3, 20)
    columns = events(shape=shape)
    x = Spikes.from_events(*columns, shape)
    assert torch.equal(x.dense(), counted(columns, shape)) and x.dense().max() > 1
    assert x.density == 200 / 300 and len(x) == 5 and x.ndim == 3 and x.shape == shape
    arrays = Spikes.from_events(*(c.numpy() for c in columns), shape)
    assert torch.equal(arrays.index, x.index)
    assert x.dense(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_dense_there_and_back(density):
    x = (torch.rand(4, 2, 70) < density).float()
    assert torch.equal(Spikes.from_dense(x).dense(), x) and Spikes.from_dense(x).values is None
    graded = x * torch.randint(-3, 4, x.shape)
    assert torch.equal(Spikes.from_dense(graded).dense(), graded)
    empty = Spikes.from_dense(x[:0])
    assert empty.dense().shape == (0, 2, 70)


def test_steps_are_cut_out():
    columns = events()
    x = Spikes.from_events(*columns, (5, 3, 20))
    for steps in (slice(0, 2), slice(2, 5), slice(None), slice(-1, None), slice(4, 2)):
        assert torch.equal(x[steps].dense(), x.dense()[steps])
    graded = Spikes.from_dense(x.dense())
    assert torch.equal(graded[1:3].dense(), x.dense()[1:3])
    for bad in (0, slice(0, 4, 2)):
        with pytest.raises(Refusal, match="Spikes: expected a slice of steps without gaps"):
            x[bad]


def test_what_does_not_fit_is_refused_by_name():
    step, sample, feature = events()
    for columns, text in (
        ((step + 1, sample, feature), r"Spikes step: expected from 0 to 4; got 1 to 5"),
        ((step, sample - 1, feature), r"Spikes sample: expected from 0 to 2; got -1 to 1"),
        ((step, sample, feature * 2), r"Spikes feature: expected from 0 to 19"),
        ((step, sample, feature.float()), r"events feature: expected whole numbers"),
        ((step, sample[:-1], feature), r"events sample: expected whole numbers \[events\]; got .*\(199,\)"),
    ):
        with pytest.raises(Refusal, match=text):
            Spikes.from_events(*columns, (5, 3, 20))
    index = torch.tensor([0, 1], dtype=torch.int32)
    for pointer in ([0, 1], [0, 2, 1], [1, 1, 2], [0, 1, 3]):
        with pytest.raises(Refusal, match=r"Spikes.pointer: expected 3 numbers from 0 up to the 2 events"):
            Spikes(torch.tensor(pointer), index, (2, 1, 2))
    with pytest.raises(Refusal, match="Spikes index: expected from 0 to 0; got 0 to 1"):
        Spikes(torch.tensor([0, 1, 2]), index, (2, 1, 1))
    with pytest.raises(Refusal, match=r"Spikes\.values: expected 2 of them"):
        Spikes(torch.tensor([0, 1, 2]), index, (2, 1, 2), torch.ones(3))
    with pytest.raises(Refusal, match=r"Spikes: expected shape \(T, B, I\)"):
        Spikes(torch.tensor([0, 2]), index, (1, 2))
    with pytest.raises(Refusal, match="Spikes: expected floating-point"):
        Spikes.from_dense(torch.zeros(2, 3))
