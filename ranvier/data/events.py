"""Events of cameras and cochleas: numpy structured arrays, read by field name, and the frames that networks eat.

The fields are t (time, in microseconds unless said otherwise), x, y and p (polarity, from 0); a cochlea's events have
t and x alone, or p besides. Their order is free, as is that of other fields.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranvier.core.checks import NonFinite, Refusal

_MOST = 2**31  # values of one result: 8 GiB


@dataclass(frozen=True)
class Sensor:
    """What recorded events: a camera of width x height pixels, or a line of `width` channels where height is None.

    One polarity means that p does not matter: all events count alike.

    >>> Sensor(34, 34).shape, Sensor(700, polarities=1).shape
    ((2, 34, 34), (700,))
    """

    width: int
    height: int | None = None
    polarities: int = 2

    def __post_init__(self) -> None:
        sizes = [self.width, self.polarities, 1 if self.height is None else self.height]
        if min(sizes) < 1:
            raise Refusal(
                "Sensor",
                expected="sizes of 1 or more",
                got=f"{self}",
                do="Give the sensor's width and height in pixels.",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """[P, H, W] of a camera, [W] of a line of one polarity, [P, W] of a line of more."""
        plane = (self.width,) if self.height is None else (self.height, self.width)
        return plane if self.height is None and self.polarities == 1 else (self.polarities, *plane)


def events(t: Any, x: Any, y: Any = None, p: Any = None) -> np.ndarray:
    """An array of events from its columns, in the order given; a camera's has t, x, y, p, a cochlea's t, x, p.

    Raises: Refusal for columns of unequal length, negative times or coordinates beyond 16 bits; NonFinite.

    >>> events(t=[0, 7], x=[3, 4], y=[1, 1], p=[True, False])[1].item()
    (7, 4, 1, False)
    """
    given = {"t": t, "x": x, "y": y, "p": p}
    columns = {name: np.asarray(c) for name, c in given.items() if c is not None}
    lengths = {name: c.shape for name, c in columns.items()}
    if len(set(lengths.values())) > 1 or columns["t"].ndim != 1:
        raise Refusal("events", expected="columns of one length", got=f"{lengths}", do="Give one value for each event.")
    times = columns["t"]
    if times.dtype.kind == "f":
        _finite(times)
        times = np.rint(times)
    if len(times) and times.min() < 0:
        raise Refusal("events", expected="times from 0", got=f"{times.min()}", do="Subtract the first time.")
    for name in columns.keys() & {"x", "y"}:
        c = columns[name]
        if len(c) and (c.min() < 0 or c.max() >= 2**15):
            raise Refusal(
                f"events field {name}",
                expected="coordinates from 0 to 32767",
                got=f"{c.min()} to {c.max()}",
                do="Count pixels from the top left one.",
            )
    kinds = {"t": np.int64, "x": np.int16, "y": np.int16, "p": np.bool_}
    array = np.empty(len(times), dtype=[(name, kinds[name]) for name in columns])
    for name, c in columns.items():
        array[name] = times if name == "t" else c
    return array


def time_order(array: np.ndarray) -> np.ndarray:
    """The events by time; those of one time keep their order.

    >>> time_order(events(t=[5, 2, 5], x=[0, 1, 2]))["x"].tolist()
    [1, 0, 2]
    """
    t = _field(array, "t")
    return array if len(t) < 2 or not (t[1:] < t[:-1]).any() else array[np.argsort(t, kind="stable")]


def frames(
    array: np.ndarray,
    sensor: Sensor,
    *,
    steps: int | None = None,
    window: int | None = None,
    count: int | None = None,
    start: int | None = None,
    stop: int | None = None,
) -> np.ndarray:
    """Events counted in frames [T, *sensor.shape], float32; exactly one of steps, window and count says how.

    steps: T equal slices of the time from `start` to `stop`. window: slices of that many microseconds, as many as it
    takes. Slices hold start <= t < end. `start` is the first event's time by default; without `stop`, the last event
    is inside, on the last edge too. Where they are given, events outside [start, stop) are left out; no other event
    is ever lost. count: each frame has that many events, the last one what is left.

    Raises: Refusal for events without time order, outside the sensor, without a field, with a negative time, or none
    at all where `start` and `stop` do not say what time the zeros are to cover; NonFinite for times of NaN or Inf.

    >>> e = events(t=[0, 10, 20, 30], x=[0, 1, 1, 0], y=[0, 0, 0, 0], p=[1, 1, 0, 1])
    >>> frames(e, Sensor(2, 1), steps=3)[:, 1, 0].tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    >>> frames(e, Sensor(2, 1), window=20).sum((1, 2, 3)).tolist()
    [2.0, 2.0]
    """
    given = {"steps": steps, "window": window, "count": count}
    named = {name: n for name, n in given.items() if n is not None}
    if len(named) != 1 or next(iter(named.values())) < 1:
        raise Refusal("frames", expected="one of steps, window and count, 1 or more", got=f"{named}", do="Give one.")
    if count is not None and (start is not None or stop is not None):
        raise Refusal("frames", expected="start and stop with steps or window", got="count", do="Cut the events first.")
    require(array, sensor)
    t = times(array)
    if start is not None or stop is not None:
        first, end = np.searchsorted(t, [start if start is not None else -np.inf, stop if stop is not None else np.inf])
        array, t = array[first:end], t[first:end]
    if len(t) == 0 and (start is None or stop is None or stop <= start):
        raise Refusal(
            "frames", expected="an event or more", got="none", do="Drop it, or give start and stop for zeros."
        )
    if count is not None:
        step, length = np.arange(len(t)) // count, -(-len(t) // count)
    else:
        step, length = slices(t, steps, window, start, stop)
    cells = int(np.prod(sensor.shape))
    if length * cells > _MOST:
        raise Refusal(
            "frames", expected=f"fewer than {_MOST // cells} frames", got=f"{length}", do="Take a longer window."
        )
    total = np.bincount(step * cells + cell_numbers(array, sensor), minlength=length * cells)
    return total.astype(np.float32).reshape(length, *sensor.shape)


def slices(
    t: np.ndarray, steps: int | None, window: int | None, start: int | None, stop: int | None
) -> tuple[np.ndarray, int]:
    """Which slice each event is in, and how many slices there are."""
    begin = t[0] if start is None else start
    if window is not None:
        length = int((t[-1] - begin) // window) + 1 if stop is None else int(-(-(stop - begin) // window))
        return ((t - begin) // window).astype(np.int64), length
    assert steps is not None
    span = (t[-1] if stop is None else stop) - begin
    if span == 0:
        return np.zeros(len(t), dtype=np.int64), steps
    # multiplied before divided, so that whole microseconds stay exact
    return np.minimum((t - begin) * steps // span, steps - 1).astype(np.int64), steps


def voxels(array: np.ndarray, sensor: Sensor, bins: int) -> np.ndarray:
    """Polarities (-1 and 1) shared between the two nearest of `bins` moments: [bins, H, W], float32.

    V(b, y, x) = sum over events of p max(0, 1 - |b - t'|), t' = (bins - 1) (t - t_first) / (t_last - t_first);
    all events weigh 1 where the sensor has one polarity. The sum of V is that of the polarities.

    Raises: as `frames`; Refusal for more than two polarities.

    Source: A. Zhu, L. Yuan, K. Chaney and K. Daniilidis, CVPR 2019, equations 2 to 4.

    >>> voxels(events(t=[0, 25, 100], x=[0, 0, 0], y=[0, 0, 0], p=[1, 1, 0]), Sensor(1, 1), 3).ravel().tolist()
    [1.5, 0.5, -1.0]
    """
    if bins < 1 or sensor.polarities > 2:
        got = f"{bins} bins, {sensor.polarities} polarities"
        raise Refusal("voxels", expected="a bin or more, one or two polarities", got=got, do="Correct it.")
    require(array, sensor)
    t = times(array)
    if len(t) == 0:
        raise Refusal("voxels", expected="an event or more", got="none", do="Drop the recording.")
    place = (bins - 1) * (t - t[0]).astype(np.float64) / max(t[-1] - t[0], 1)
    low = np.minimum(place.astype(np.int64), max(bins - 2, 0))
    sign = np.where(_field(array, "p") > 0, 1.0, -1.0) if sensor.polarities == 2 else np.ones(len(t))
    plane = Sensor(sensor.width, sensor.height, 1)
    cells, index = int(np.prod(plane.shape)), cell_numbers(array, plane)
    if bins * cells > _MOST:
        raise Refusal("voxels", expected=f"at most {_MOST // cells} bins", got=f"{bins}", do="Take fewer.")
    above = place - low
    total = np.bincount(low * cells + index, sign * (1 - above), minlength=bins * cells)
    if bins > 1:
        total += np.bincount((low + 1) * cells + index, sign * above, minlength=bins * cells)
    return total.astype(np.float32).reshape(bins, *plane.shape[-2 if sensor.height else -1 :])


def spike_list(counts: np.ndarray, window: int = 1) -> np.ndarray:
    """The events of frames [T, P, H, W] or [T, W], each at the first moment of its frame: what `frames` counted.

    Raises: Refusal for other shapes, and for values that are no counts.

    >>> e = spike_list(np.array([[0.0, 2.0], [1.0, 0.0]]), window=1000)
    >>> e["t"].tolist(), e["x"].tolist()
    ([0, 0, 1000], [1, 1, 0])
    """
    counts = np.asarray(counts)
    if counts.ndim not in (2, 4):
        got = f"shape {counts.shape}"
        raise Refusal("spike_list", expected="[T, P, H, W] or [T, W]", got=got, do="Take one recording's frames.")
    if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.floor(counts)).all()):
        raise Refusal("spike_list", expected="counts", got="values that are none", do="Take frames of whole numbers.")
    if counts.ndim == 4 and counts.shape[1] > 2:
        raise Refusal("spike_list", expected="1 or 2 polarities", got=f"{counts.shape[1]}", do="Take two of them.")
    place = np.nonzero(counts)
    step, *where = (np.repeat(i, counts[place].astype(np.int64)) for i in place)
    if counts.ndim == 2:
        return events(step * window, where[0], p=np.ones(len(step), dtype=bool))
    return events(step * window, where[2], where[1], where[0])


def require(array: np.ndarray, sensor: Sensor) -> None:
    """Nothing, where the events have all fields, are in time order and lie inside the sensor.

    Raises: Refusal saying which event is wrong; NonFinite for times of NaN or Inf.

    >>> require(events(t=[0], x=[3], y=[0], p=[0]), Sensor(4, 4))
    """
    if not isinstance(sensor, Sensor):
        raise Refusal("sensor", expected="a Sensor", got=repr(sensor), do="Give Sensor(width, height).")
    t = _field(array, "t")
    if t.dtype.kind == "f":
        _finite(t)
    if len(t) == 0:
        return
    falls = t[1:] < t[:-1]
    if falls.any():
        i = int(np.argmax(falls)) + 1
        do = 'Sort them with time_order(events), or events[np.argsort(events["t"], kind="stable")].'
        raise Refusal("events", expected="times in order", got=f"event {i} at {t[i]} after one at {t[i - 1]}", do=do)
    if t[0] < 0:
        raise Refusal("events", expected="times from 0", got=f"{t[0]}", do="Subtract the first time.")
    bounds = {"x": sensor.width, "y": sensor.height, "p": sensor.polarities if sensor.polarities > 1 else None}
    for name, size in bounds.items():
        if size is None:
            continue
        c = _field(array, name)
        if c.dtype.kind == "f" and not (c == np.floor(c)).all():
            raise Refusal(f"events field {name}", expected="whole numbers", got="fractions", do="Round them.")
        if int(c.min()) < 0 or int(c.max()) >= size:
            outside = (c < 0) | (c >= size)
            i = int(np.argmax(outside))
            do = 'Write (events["p"] > 0) for -1 and 1.' if name == "p" else "Give the sensor's true size, or cut them."
            raise Refusal(
                f"events outside {sensor}", expected=f"{name} from 0 to {size - 1}", got=f"{c[i]} at event {i}", do=do
            )


def _finite(t: np.ndarray) -> None:
    if not np.isfinite(t).all():
        i = int(np.argmin(np.isfinite(t)))
        raise NonFinite(f"events: expected finite times, got {t[i]} at event {i}. Drop it.")


def _field(array: np.ndarray, name: str) -> np.ndarray:
    names = getattr(getattr(array, "dtype", None), "names", None)
    if not names or name not in names or array.ndim != 1:
        got = ", ".join(names) if names else type(array).__name__
        do = "Build them with events(t, x, y, p), or rename the fields with numpy.lib.recfunctions.rename_fields."
        raise Refusal("events", expected=f"a structured array [N] with a field {name}", got=got, do=do)
    found: np.ndarray = array[name]
    return found


def times(array: np.ndarray) -> np.ndarray:
    """Signed, so that differences are right."""
    t = _field(array, "t")
    return t.astype(np.float64 if t.dtype.kind == "f" else np.int64)


def cell_numbers(array: np.ndarray, sensor: Sensor) -> np.ndarray:
    """The number of each event's place in an array of the sensor's shape."""
    index = _field(array, "x").astype(np.int64)
    if sensor.height is not None:
        index += sensor.width * _field(array, "y").astype(np.int64)
    if sensor.polarities > 1:
        index += sensor.width * (sensor.height or 1) * _field(array, "p").astype(np.int64)
    return index
