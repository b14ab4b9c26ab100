"""A batch of events is the batch of their frames."""

import numpy as np
import pytest
import torch

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.event_batches import spikes
from ranvier.data.events import Sensor, events, frames
from ranvier.data.samples import pad
from ranvier.nn.synapses.spike_linear import SpikeLinear

CAMERA, COCHLEA = Sensor(6, 5), Sensor(20, polarities=1)


def recorded(sensor, seed, number=300):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 2000, number))
    x = rng.integers(0, sensor.width, number)
    if sensor.height is None:
        return events(t, x)
    return events(t, x, rng.integers(0, sensor.height, number), rng.integers(0, 2, number))


@pytest.mark.parametrize("sensor", [CAMERA, COCHLEA], ids=["camera", "cochlea"])
@pytest.mark.parametrize(
    "binning", [{"steps": 7}, {"window": 300}, {"window": 300, "start": 100, "stop": 1500}, {"steps": 4, "start": 500}]
)
def test_it_counts_what_frames_count(sensor, binning):
    recordings = [recorded(sensor, seed, number) for seed, number in ((0, 300), (1, 30), (2, 1))]
    recordings[1]["t"] //= 2
    if "start" in binning:
        recordings = recordings[:1]
    x, lengths = spikes(recordings, sensor, **binning)
    each = [torch.from_numpy(frames(r, sensor, **binning)).flatten(1) for r in recordings]
    expected, steps = pad(each)
    assert torch.equal(x.dense(), expected) and lengths.tolist() == steps.tolist()
    layer = SpikeLinear(x.shape[2], 9)
    torch.testing.assert_close(layer(x), layer(expected), rtol=1e-5, atol=1e-5)


def test_what_frames_refuse_is_refused_with_the_recording():
    good = recorded(COCHLEA, 0)
    for binning in ({}, {"steps": 2, "window": 3}, {"steps": 0}):
        with pytest.raises(Refusal, match="spikes: expected one of steps and window, 1 or more"):
            spikes([good], COCHLEA, **binning)
    with pytest.raises(Refusal, match="spikes: expected a recording or more; got none"):
        spikes([], COCHLEA, steps=2)
    with pytest.raises(Refusal, match="spikes: expected an event or more; got none in recording 1"):
        spikes([good, good[:0]], COCHLEA, steps=2)
    with pytest.raises(Refusal, match="times in order") as refused:
        spikes([good, good[::-1]], COCHLEA, steps=2)
    assert refused.value.__notes__ == ["It is recording 1 of the batch."]
    bad = np.zeros(1, dtype=[("t", float), ("x", int)])
    bad["t"] = np.nan
    with pytest.raises(NonFinite):
        spikes([bad], COCHLEA, steps=2)
