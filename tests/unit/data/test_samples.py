import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.samples import Samples, pad, unpad, windows

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=6)
features = st.lists(st.integers(1, 3), max_size=2).map(tuple)


def made(steps: list[int], shape: tuple[int, ...] = (2,)) -> Samples:
    """Sequences whose numbers all differ, alternately of two classes."""
    total, size = sum(steps), int(np.prod(shape))
    flat = np.arange(total * size, dtype=np.float32).reshape(total, *shape)
    x = np.split(flat, np.cumsum(steps)[:-1])
    return Samples(x=x, y=np.arange(len(steps)) % 2, classes=("rest", "move"), group=10 + np.arange(len(steps)))


@given(lengths, features)
def test_unpad_undoes_pad_and_the_rest_is_zero(steps: list[int], shape: tuple[int, ...]) -> None:
    sequences = [torch.rand(n, *shape) + 1 for n in steps]
    x, found = pad(sequences)
    assert x.shape == (max(steps), len(steps), *shape) and found.tolist() == steps
    assert all(torch.equal(a, b) for a, b in zip(sequences, unpad(x, found), strict=True))
    assert all((x[n:, i] == 0).all() for i, n in enumerate(steps))


def test_pad_refuses_nothing_and_unequal_features() -> None:
    with pytest.raises(Refusal, match="at least one sequence"):
        pad([])
    with pytest.raises(Refusal, match=r"\(2,\), \(3,\)"):
        pad([torch.ones(1, 3), torch.ones(1, 2)])


@given(lengths, st.integers(1, 12), st.integers(1, 12))
def test_windows_are_pieces_of_their_sequence(steps: list[int], length: int, stride: int) -> None:
    samples = made(steps)
    cut = windows(samples, length, stride)
    for i, sequence in enumerate(samples.x):
        mine = [w for w, g in zip(cut.x, cut.group, strict=True) if g == samples.group[i]]
        assert {len(w) for w in mine} == {length}
        if len(sequence) < length:
            assert len(mine) == 1
            assert np.array_equal(mine[0][: len(sequence)], sequence)
            assert np.allclose(mine[0][len(sequence) :], sequence.mean(0))
        else:
            starts = range(0, len(sequence) - length + 1, stride)
            assert all(np.array_equal(w, sequence[s : s + length]) for w, s in zip(mine, starts, strict=True))
    assert np.array_equal(cut.y, samples.y[cut.group - 10])
    assert all(w.dtype == np.float32 for w in cut.x)


@pytest.mark.parametrize(("length", "stride"), [(0, None), (3, 0), (3, -1)])
def test_windows_refuses_lengths_and_strides_below_one(length: int, stride: int | None) -> None:
    with pytest.raises(Refusal, match="1 step or more"):
        windows(made([5]), length, stride)


def test_windows_refuses_a_sequence_without_steps() -> None:
    with pytest.raises(Refusal, match="sample 1"):
        windows(made([5, 0]), 3)


@given(lengths, st.integers(1, 4))
def test_ragged_batches_hold_every_sample_once_in_order(steps: list[int], size: int) -> None:
    samples = made(steps)
    batches = list(samples.batches(size))
    assert [len(b.y) for b in batches[:-1]] == [size] * (len(batches) - 1)
    back = [s for b in batches for s in unpad(b.x, b.lengths)]
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(samples.x, back, strict=True))
    assert torch.cat([b.y for b in batches]).tolist() == samples.y.tolist()
    assert all(b.x.dtype == torch.float32 and b.y.dtype == torch.int64 and len(b.x) == b.lengths.max() for b in batches)


def test_take_goes_by_number_or_by_mask() -> None:
    samples = made([1, 2, 3])
    assert [len(x) for x in samples.take([2, 0]).x] == [3, 1]
    masked = samples.take(np.array([False, True, True]))
    assert [len(x) for x in masked.x] == [2, 3] and masked.group.tolist() == [11, 12]
    assert len(samples.take([])) == 0
    with pytest.raises(IndexError):
        samples.take([3])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_require_finite_names_sample_class_and_step(bad: float) -> None:
    samples = made([4, 5])
    assert samples.require_finite() is samples
    samples.x[1][3, 1] = bad
    with pytest.raises(NonFinite, match=r"sample 1 \(class 'move'\).*step 3"):
        samples.require_finite()


def test_require_finite_sees_sequences_without_feature_axes() -> None:
    with pytest.raises(NonFinite, match="step 1"):
        Samples(x=[np.array([0.0, np.nan])], y=np.array([0]), classes=("a",)).require_finite()


def test_samples_refuse_what_does_not_match() -> None:
    x = [np.ones((2, 1)), np.ones((3, 1))]
    with pytest.raises(Refusal, match="2 sequences, 1 labels"):
        Samples(x=x, y=np.array([0]), classes=("a",))
    with pytest.raises(Refusal, match="2 groups; got 3"):
        Samples(x=x, y=np.array([0, 0]), classes=("a",), group=np.arange(3))
    for y in ([0, 1], [-1, 0]):
        with pytest.raises(Refusal, match="labels from 0 to 0"):
            Samples(x=x, y=np.array(y), classes=("a",))
