import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.spike_trains import SpikeTrains

A, B = np.array([1.0, 1.2, 1.9, 2.5]), np.array([2.0])
PLACE, WHEN = np.array([[0, 5], [2, 5]], dtype=np.float32), np.array([1.0, 3.0])


def made() -> SpikeTrains:
    return SpikeTrains(
        times=(A.copy(), B.copy(), np.zeros(0)),
        start=1.0,
        stop=3.0,
        position=PLACE.copy(),
        position_times=WHEN.copy(),
        targets=("x", "y"),
        tetrode=np.array([0, 0, 4]),
    )


def test_bins_hold_counts_and_the_position_in_their_middle() -> None:
    binned = made().binned(0.5)
    assert binned.x.tolist() == [[2, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]] and binned.x.dtype == np.float32
    assert binned.y.tolist() == [[0.25, 5], [0.75, 5], [1.25, 5], [1.75, 5]] and binned.y.dtype == np.float32
    assert binned.rate == 2.0 and binned.targets == ("x", "y") and binned.channels == ("unit 0", "unit 1", "unit 2")


def test_what_is_shorter_than_a_bin_is_dropped() -> None:
    assert len(made().binned(0.6)) == 3
    assert len(SpikeTrains(times=(), start=0.0, stop=0.3).binned(0.1)) == 3  # 0.3 / 0.1 is less than 3 in floats


def test_units_without_a_position_are_binned_too() -> None:
    assert SpikeTrains(times=(A,), start=1.0, stop=3.0).binned(1.0).y.shape == (2, 0)


@given(st.lists(st.floats(0, 10), max_size=50).map(sorted), st.sampled_from([0.01, 0.1, 0.25, 0.3, 1.0, 3.0, 10.0]))
def test_every_spike_in_the_span_of_the_bins_is_counted_once(times: list[float], width: float) -> None:
    trains = SpikeTrains(times=(np.array(times),), start=0.0, stop=10.0)
    binned = trains.binned(width)
    assert binned.x.sum() == sum(t < width * len(binned) for t in times)


@pytest.mark.parametrize("width", [0.0, -1.0, 2.5, float("nan")])
def test_a_width_that_gives_no_bin_is_refused(width: float) -> None:
    with pytest.raises(Refusal, match="a width in s"):
        made().binned(width)


def test_a_part_keeps_the_clock_and_is_a_copy() -> None:
    whole = made()
    part = whole.part(1.2, 2.5)
    assert [t.tolist() for t in part.times] == [[1.2, 1.9], [2.0], []] and (part.start, part.stop) == (1.2, 2.5)
    part.times[0][:] = 2.0
    assert np.array_equal(whole.times[0], A)


@pytest.mark.parametrize(("start", "stop"), [(1.0, 3.0), (1.0, 1.5), (1.5, 2.0), (2.0, 3.0)])
def test_a_part_is_binned_as_the_whole_is(start: float, stop: float) -> None:
    part, whole = made().part(start, stop).binned(0.25), made().binned(0.25)
    same = whole.part(round((start - 1) / 0.25), round((stop - 1) / 0.25))
    assert np.array_equal(part.x, same.x) and np.array_equal(part.y, same.y)


def test_positions_out_of_order_are_refused() -> None:
    with pytest.raises(Refusal, match="position: expected times in order"):
        SpikeTrains(times=(A,), start=1.0, stop=3.0, position=PLACE, position_times=WHEN[::-1])


def test_a_part_that_was_not_recorded_is_refused() -> None:
    for start, stop in ((0.5, 2.0), (2.0, 2.0), (2.0, 3.5)):
        with pytest.raises(Refusal, match=r"1\.0 <= start < stop <= 3\.0"):
            made().part(start, stop)


@pytest.mark.parametrize("times", [[2.0, 1.5], [0.5, 2.0], [2.0, 3.5]])
def test_times_out_of_order_or_span_are_refused_by_unit(times: list[float]) -> None:
    with pytest.raises(Refusal, match="unit 1: expected times in order"):
        SpikeTrains(times=(A, np.array(times)), start=1.0, stop=3.0)


def test_what_is_not_finite_is_named() -> None:
    with pytest.raises(NonFinite, match="unit 1"):
        SpikeTrains(times=(A, np.array([np.nan])), start=1.0, stop=3.0)
    with pytest.raises(NonFinite, match="row 1"):
        SpikeTrains(times=(A,), start=1.0, stop=3.0, position=PLACE * [[1], [np.nan]], position_times=WHEN)


def test_a_position_needs_as_many_times_and_a_tetrode_each_unit() -> None:
    with pytest.raises(Refusal, match="one without the other"):
        SpikeTrains(times=(A,), start=1.0, stop=3.0, position=PLACE)
    with pytest.raises(Refusal, match="one row for each time"):
        SpikeTrains(times=(A,), start=1.0, stop=3.0, position=PLACE, position_times=WHEN[:1])
    with pytest.raises(Refusal, match="1 tetrodes"):
        SpikeTrains(times=(A,), start=1.0, stop=3.0, tetrode=np.array([1, 2]))
