"""Binning, against plain loops and a few numbers worked out by hand."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.events import Sensor, events, frames, require, spike_list, time_order, voxels

CAMERA = Sensor(5, 4)


def drawn(seed: int, count: int = 200, sensor: Sensor = CAMERA, last: int = 997) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, last + 1, count)) + int(rng.integers(0, 50))
    y = None if sensor.height is None else rng.integers(0, sensor.height, count)
    return events(t, rng.integers(0, sensor.width, count), y, rng.integers(0, 2, count))


def looped(e: np.ndarray, sensor: Sensor, slices: list[tuple[Fraction, Fraction]]) -> np.ndarray:
    """Each event into the slice that holds its time; into the last one on the last edge."""
    out = np.zeros((len(slices), *sensor.shape), dtype=np.float32)
    for event in e:
        t = int(event["t"])
        for k, (begin, end) in enumerate(slices):
            if begin <= t < end or (k == len(slices) - 1 and t == end):
                place = (int(event["p"]), int(event["y"]), int(event["x"])) if sensor.height else (int(event["x"]),)
                out[(k, *place)] += 1
    return out


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sensor", [CAMERA, Sensor(7, polarities=1)], ids=["camera", "cochlea"])
def test_steps_are_equal_slices_of_the_time(seed: int, sensor: Sensor) -> None:
    e, steps = drawn(seed, sensor=sensor), 3 + seed
    first, last = int(e["t"][0]), int(e["t"][-1])
    edges = [first + Fraction((last - first) * k, steps) for k in range(steps + 1)]
    found = frames(e, sensor, steps=steps)
    assert found.dtype == np.float32 and found.shape == (steps, *sensor.shape) and found.sum() == len(e)
    assert np.array_equal(found, looped(e, sensor, list(pairwise(edges))))


@pytest.mark.parametrize("seed", range(4))
def test_windows_are_as_many_as_it_takes(seed: int) -> None:
    e, window = drawn(seed), 40 + 17 * seed
    found = frames(e, CAMERA, window=window)
    first = int(e["t"][0])
    slices = [(Fraction(first + window * k), Fraction(first + window * (k + 1))) for k in range(len(found))]
    assert found.sum() == len(e) and found[-1].sum() > 0
    assert np.array_equal(found, looped(e, CAMERA, slices))


def test_an_event_on_an_edge_is_in_the_later_slice_and_on_the_last_in_the_last() -> None:
    e = events(t=[0, 10, 20, 30], x=[0, 1, 2, 3])
    line = Sensor(4, polarities=1)
    assert frames(e, line, steps=3).argmax(0).tolist() == [0, 1, 2, 2]
    assert frames(e, line, window=10).argmax(0).tolist() == [0, 1, 2, 3]


def test_count_gives_frames_of_as_many_events_and_what_is_left() -> None:
    e = drawn(0, 205)
    found = frames(e, CAMERA, count=50)
    assert found.sum((1, 2, 3)).tolist() == [50, 50, 50, 50, 5]
    assert np.array_equal(found[1], frames(e[50:100], CAMERA, steps=1)[0])


def test_start_and_stop_say_which_time_is_covered() -> None:
    e = events(t=[5, 12, 30, 44], x=[0, 1, 2, 3])
    line = Sensor(4, polarities=1)
    assert frames(e, line, window=10, start=0).sum(1).tolist() == [1, 1, 0, 1, 1]
    assert frames(e, line, window=10, start=10, stop=35).sum(1).tolist() == [1, 0, 1]
    assert frames(e, line, steps=2, start=0, stop=40).sum(1).tolist() == [2, 1]
    assert frames(e[:0], line, window=10, start=0, stop=25).shape == (3, 4)
    with pytest.raises(Refusal, match="an event or more; got none"):
        frames(e[:0], line, steps=3)
    with pytest.raises(Refusal, match="an event or more"):
        frames(e, line, steps=3, start=100)


def test_events_of_one_time_are_in_the_first_frame() -> None:
    assert frames(events(t=[7, 7], x=[0, 1]), Sensor(2, polarities=1), steps=3).sum(1).tolist() == [2, 0, 0]


def test_absolute_times_of_microseconds_stay_exact() -> None:
    e = drawn(3)
    later = e.copy()
    later["t"] += 1_633_953_690_975_950
    assert np.array_equal(frames(e, CAMERA, steps=7), frames(later, CAMERA, steps=7))


def test_fields_are_read_by_name_whatever_their_order_and_type() -> None:
    e = drawn(1)
    kinds = [("p", "u1"), ("extra", "f8"), ("y", "<u2"), ("x", "<i8"), ("t", "<u8")]
    other = np.zeros(len(e), dtype=kinds)
    for name in "txyp":
        other[name] = e[name]
    for how in ({"steps": 4}, {"window": 100}, {"count": 9}):
        assert np.array_equal(frames(e, CAMERA, **how), frames(other, CAMERA, **how))
    assert np.array_equal(voxels(e, CAMERA, 4), voxels(other, CAMERA, 4))


def test_one_polarity_counts_all_events_alike() -> None:
    e = drawn(2)
    assert np.array_equal(frames(e, Sensor(5, 4, 1), steps=3)[:, 0], frames(e, CAMERA, steps=3).sum(1))


@pytest.mark.parametrize("bins", [1, 2, 5])
def test_voxels_share_each_event_between_two_moments(bins: int) -> None:
    e = drawn(4)
    expected = np.zeros((bins, 4, 5))
    for event in e:
        place = (bins - 1) * int(event["t"] - e["t"][0]) / int(e["t"][-1] - e["t"][0])
        for b in range(bins):
            sign = 1 if event["p"] else -1
            expected[b, event["y"], event["x"]] += sign * max(0.0, 1 - abs(b - place))
    found = voxels(e, CAMERA, bins)
    assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-5)
    assert found.sum() == pytest.approx((2.0 * e["p"] - 1).sum(), abs=1e-3)
    assert voxels(drawn(4, sensor=Sensor(7, polarities=1)), Sensor(7, polarities=1), bins).shape == (bins, 7)


def test_frames_become_events_again() -> None:
    for sensor in (CAMERA, Sensor(7, polarities=1)):
        counted = frames(drawn(5, sensor=sensor), sensor, steps=6)
        again = spike_list(counted, window=20)
        assert np.array_equal(frames(again, sensor, window=20, start=0, stop=120), counted)
    with pytest.raises(Refusal, match="counts"):
        spike_list(np.full((2, 3), 0.5))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e[["t", "x", "y"]], "a field p; got t, x, y"),
        (lambda e: e[::-1], r"event 1 at \d+ after one at \d+.*time_order"),
        (lambda e: e["x"], "structured array.*got ndarray"),
        (lambda e: [1, 2], "got list"),
    ],
)
def test_bad_events_are_refused(change, says: str) -> None:
    with pytest.raises(Refusal, match=says):
        frames(change(drawn(0)), CAMERA, steps=2)


def test_events_outside_the_sensor_are_refused_by_number() -> None:
    e = drawn(0)
    e["x"][17] = 5
    with pytest.raises(Refusal, match=r"outside Sensor\(width=5.*x from 0 to 4; got 5 at event 17"):
        frames(e, CAMERA, steps=2)
    signed = np.array([(0, 1, 1, -1)], dtype=[("t", int), ("x", int), ("y", int), ("p", int)])
    with pytest.raises(Refusal, match=r"p from 0 to 1; got -1.*> 0"):
        require(signed, CAMERA)
    signed["t"] = -3
    with pytest.raises(Refusal, match="times from 0; got -3"):
        require(signed, CAMERA)
    with pytest.raises(Refusal, match="Sensor"):
        require(signed, (5, 4, 2))  # type: ignore[arg-type]


def test_times_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(NonFinite, match="got nan at event 1"):
        events(t=[0.0, np.nan], x=[0, 0])
    e = np.array([(0.0, 1), (np.inf, 1)], dtype=[("t", float), ("x", int)])
    with pytest.raises(NonFinite, match="got inf at event 1"):
        frames(e, Sensor(2, polarities=1), steps=2)


@pytest.mark.parametrize("how", [{}, {"steps": 2, "window": 3}, {"steps": 0}, {"count": 5, "start": 0}])
def test_one_way_of_binning_is_asked_for(how: dict[str, int]) -> None:
    with pytest.raises(Refusal, match="expected"):
        frames(drawn(0), CAMERA, **how)


def test_frames_without_end_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(Refusal, match=r"fewer than.*longer window"):
        frames(events(t=[0, 10**12], x=[0, 0], y=[0, 0], p=[0, 0]), CAMERA, window=1)
    with pytest.raises(Refusal, match="at most"):
        voxels(drawn(0), CAMERA, 2**40)


def test_columns_that_make_no_events_are_refused() -> None:
    with pytest.raises(Refusal, match="one length"):
        events(t=[0, 1], x=[0])
    with pytest.raises(Refusal, match="times from 0; got -1"):
        events(t=[-1], x=[0])
    with pytest.raises(Refusal, match=r"field x.*32767; got 40000"):
        events(t=[1], x=[40000])
    with pytest.raises(Refusal, match="sizes of 1"):
        Sensor(0, 3)


def test_sorting_keeps_the_order_of_one_time() -> None:
    e = time_order(events(t=[3, 1, 3, 1], x=[0, 1, 2, 3]))
    assert e["x"].tolist() == [1, 3, 0, 2]
