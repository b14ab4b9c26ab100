"""Batches of recorded events as events: what `frames` counts, without a tensor in which nearly all is zero."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.data.events import Sensor, cell_numbers, require, slices, times
from ranvier.ops.spike_pack.spikes import Spikes


def spikes(
    recordings: Sequence[np.ndarray],
    sensor: Sensor,
    *,
    steps: int | None = None,
    window: int | None = None,
    start: int | None = None,
    stop: int | None = None,
) -> tuple[Spikes, Tensor]:
    """Recordings of events as one batch [T, B, features] for `SpikeLinear`, and the steps of each that are real [B].

    The features are those of `frames` in row-major order, [P, H, W] or [W]; steps, window, start and stop are its, too.

    Raises: as `frames`; Refusal for no recording at all, naming the first recording that is wrong.

    >>> from ranvier.data.events import events, frames
    >>> a, b = events(t=[0, 10], x=[0, 2]), events(t=[0, 10, 25], x=[1, 1, 2])
    >>> x, lengths = spikes([a, b], Sensor(3, polarities=1), window=10)
    >>> x.shape, lengths.tolist(), x.dense()[:, 1].tolist() == frames(b, Sensor(3, polarities=1), window=10).tolist()
    (torch.Size([3, 2, 3]), [2, 3], True)
    """
    given = {"steps": steps, "window": window}
    named = {name: n for name, n in given.items() if n is not None}
    if len(named) != 1 or next(iter(named.values())) < 1:
        raise Refusal("spikes", expected="one of steps and window, 1 or more", got=f"{named}", do="Give one.")
    if not len(recordings):
        raise Refusal("spikes", expected="a recording or more", got="none", do="Skip empty batches.")
    places: list[tuple[np.ndarray, np.ndarray]] = []
    lengths: list[int] = []
    for number, array in enumerate(recordings):
        try:
            require(array, sensor)
        except Refusal as refusal:
            refusal.add_note(f"It is recording {number} of the batch.")
            raise
        t = times(array)
        if start is not None or stop is not None:
            bounds = [start if start is not None else -np.inf, stop if stop is not None else np.inf]
            first, end = np.searchsorted(t, bounds)
            array, t = array[first:end], t[first:end]
        if len(t) == 0 and (start is None or stop is None or stop <= start):
            got = f"none in recording {number}"
            raise Refusal("spikes", expected="an event or more", got=got, do="Drop it, or give start and stop.")
        step, length = slices(t, steps, window, start, stop)
        places.append((step, cell_numbers(array, sensor)))
        lengths.append(length)
    sizes = [len(step) for step, _ in places]
    shape = (max(lengths), len(places), int(np.prod(sensor.shape)))
    sample = np.repeat(np.arange(len(places)), sizes)
    step, cell = (np.concatenate(columns) for columns in zip(*places, strict=True))
    return Spikes.from_events(step, sample, cell, shape), torch.tensor(lengths)
