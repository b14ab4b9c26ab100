"""A program driven by events: chunks are the whole, silence is exact, bad events are counted, memory stays flat."""

import resource
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.events import Sensor, events, frames
from ranvier.deploy.engine.admission import MOST, Admission, Clock, time_step
from ranvier.deploy.engine.events import EventStream, stored
from ranvier.deploy.engine.program import Program, compile
from ranvier.deploy.engine.stored import period
from ranvier.nn.synapses.delayed_linear import DelayedLinear

R = ranvier
LINE = Sensor(6, polarities=1)


def leaky() -> nn.Module:
    return nn.Sequential(R.Linear(6, 9), R.LIF(threshold=0.2), R.Linear(9, 3), R.LeakyIntegrator(tau=3.0))


def perfect() -> nn.Module:
    first = [R.Linear(6, 9, bias=False), R.IF(threshold=0.6, reset_mode="subtract")]
    return nn.Sequential(*first, R.Linear(9, 3, bias=False), R.IF(threshold=0.6))


def heard() -> nn.Module:
    layer = R.Recurrent(R.LIF(threshold=0.3), nn.Linear(9, 9, bias=False))
    return nn.Sequential(R.Linear(6, 9, bias=False), layer, R.Linear(9, 3), R.LeakyIntegrator())


def delayed() -> nn.Module:
    first = [DelayedLinear(6, 9, max_delay=4, bias=False).rounded(), R.LIF(threshold=0.2), R.DelayLine([0, 2])]
    return nn.Sequential(
        *first, R.TimePool(3), R.DelayLine([0, 1]), R.Linear(36, 3, bias=False), R.CuBaLIF(threshold=0.01)
    )


def resting() -> nn.Module:
    """Neurons that the engine lets rest by itself, before and behind a pool of time."""
    first = [nn.Unflatten(2, (1, 6)), R.Conv1d(1, 6, 3, padding=1, bias=False), R.LIF(threshold=0.3), R.TimePool(2)]
    last = [R.Conv1d(6, 4, 3, bias=False), R.LIF(threshold=0.1), nn.Flatten(2), R.Linear(16, 3)]
    return nn.Sequential(*first, *last)


NETS = [leaky, perfect, heard, delayed, resting]


def program_of(make: object, seed: int = 0) -> Program:
    torch.manual_seed(seed)
    model = make().eval()  # type: ignore[operator]
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    return compile(model, [6])


def recording(rng: np.random.Generator, count: int = 300, long: int = 400) -> np.ndarray:
    """Bursts with silences of all lengths between them, some far longer than a block."""
    waits = np.where(rng.random(count) < 0.9, rng.integers(0, 1500, count), rng.integers(0, long * 1000, count))
    return events(t=5000 + np.cumsum(waits), x=rng.integers(0, 6, count))


def clocked(program: Program, e: np.ndarray, dt: int, start: int) -> np.ndarray:
    """Every step made, one after the other."""
    step = (e["t"] - start) // dt
    starts = np.searchsorted(step, np.arange(step[-1] + 2))
    return program.live().events(starts, e["x"].astype(np.int32))


@pytest.mark.parametrize("make", NETS)
def test_what_is_skipped_and_how_it_is_cut_changes_no_bit(make: object) -> None:
    rng = np.random.default_rng(0)
    program, e = program_of(make), recording(rng, long=9000 if make is delayed else 2000)
    whole = EventStream(program, LINE, 1000)
    y = whole.outputs(e)
    assert np.array_equal(y, clocked(program, e, 1000, int(e["t"][0])))
    assert y.any() and whole.skipped > (1000 if make is perfect else 0)
    stream, parts, at = EventStream(program, LINE, 1000), [], 0
    while at < len(e):
        size = int(rng.integers(0, 40))
        stream.feed(e[at : at + size])
        at += size
        if rng.random() < 0.6:
            parts += [np.tile(s.outputs, (s.times, 1)) for s in stream.steps(most=int(rng.integers(1, 50)))]
        if rng.random() < 0.3:
            stream = EventStream(program, LINE, 1000, state=stream.state())
    parts += [np.tile(s.outputs, (s.times, 1)) for s in stream.finish()]
    assert np.array_equal(y, np.concatenate(parts))
    ends, theirs = whole.state(), stream.state()
    assert all(np.array_equal(ends[n], theirs[n]) for n in ends if n != "events:clock")
    assert stream.done == whole.done and stream.waiting == 0


def test_it_counts_what_frames_count() -> None:
    rng = np.random.default_rng(1)
    sensor = Sensor(3, 2, 2)
    torch.manual_seed(0)
    model = nn.Sequential(R.Conv2d(2, 4, 3, padding=1), R.LIF(threshold=0.1), nn.Flatten(2), R.Linear(24, 3)).eval()
    t = np.sort(rng.integers(0, 40_000, 500))
    e = events(t, rng.integers(0, 3, 500), rng.integers(0, 2, 500), rng.integers(0, 2, 500))
    stream = EventStream(compile(model, [2, 2, 3]), sensor, 1000, start=0)
    x = torch.from_numpy(frames(e, sensor, window=1000, start=0, stop=40_000))[:, None]
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(stream.outputs(e)), model(x[: stream.done])[:, 0], atol=1e-5)
    once = EventStream(compile(model, [2, 2, 3]), sensor, 1000, start=0, once=True)
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(once.outputs(e)), model((x > 0).float()[: once.done])[:, 0], atol=1e-5)


def test_breaking_off_loses_nothing() -> None:
    program, e = program_of(heard), recording(np.random.default_rng(2))
    y = EventStream(program, LINE, 1000).outputs(e)
    stream, parts = EventStream(program, LINE, 1000), []
    stream.feed(e)
    for ahead in (stream.steps, stream.finish):
        while stream.waiting > (ahead == stream.steps):
            before = stream.done
            for s in ahead(most=7):
                parts.append(np.tile(s.outputs, (s.times, 1)))
                break
            if stream.done == before:
                break
    parts += [np.tile(s.outputs, (s.times, 1)) for s in stream.finish()]
    assert np.array_equal(y, np.concatenate(parts))


def test_a_promise_of_time_completes_steps() -> None:
    program = program_of(leaky)
    stream = EventStream(program, LINE, 1000, start=0)
    assert sum(s.length for s in stream.steps(until=2500)) == 2 and stream.done == 2
    stream.feed(events(t=[2600], x=[1]))
    assert not list(stream.steps()) and stream.waiting == 1
    assert sum(s.length * s.times for s in stream.steps(until=5000)) == 3 and stream.waiting == 0
    with pytest.raises(Refusal, match="times in order"):
        stream.feed(events(t=[4999], x=[1]))
    list(stream.finish())
    assert stream.done == 6 and stream.time_of(6) == 6000
    with pytest.raises(Refusal, match="times in order"):
        stream.feed(events(t=[5999], x=[1]))
    stream.feed(events(t=[6000], x=[1]))
    with pytest.raises(Refusal, match="gap"):
        list(stream.steps(until=10**12))
    assert not list(EventStream(program, LINE, 1000).finish())


def test_fractions_of_microseconds_don_t_drift() -> None:
    program = program_of(perfect)
    stream = EventStream(program, LINE, 1000 / 3, start=0, max_gap=None)
    assert stream.admission.dt == Fraction(1000, 3)
    stream.feed(events(t=[999_999, 1_000_000, 3_600_000_000], x=[0, 0, 0]))
    assert stream.waiting == 3 and stream._step.tolist() == [2999, 3000, 10_800_000] and stream.time_of(3) == 1000
    for bad in (0, -1, float("nan"), float("inf"), "x", None, 1e-9, 0.12345678, 1e300):
        with pytest.raises(Refusal, match="dt"):
            time_step(bad)


BAD = [
    ([0, 10, 9, 11], [0, 0, 0, 0], "order", "times in order; got t=9, x=0 at event 2"),
    ([0, 1, 2, 3], [0, 0, 6, 0], "outside", "whole places inside the sensor; got t=2, x=6 at event 2"),
    ([0, 1, 2, 3], [0, 0, -1, 0], "outside", "whole places"),
    ([0, 1, 2, 3], [0, 0, np.nan, 0], "outside", "x=nan"),
    ([0, 1, 2, 3], [0, 0, 1.5, 0], "outside", "x=1.5"),
    ([0, 1, np.nan, 3], [0, 0, 0, 0], "time", "times from 0 to 2.53; got t=nan"),
    ([0, 1, np.inf, 3], [0, 0, 0, 0], "time", "t=inf"),
    ([0, 1, -1, 3], [0, 0, 0, 0], "time", "t=-1"),
    ([0, 1, 2**60, 3], [0, 0, 0, 0], "time", "t=1152921504606846976"),
    ([0, 1, 2**52, 3], [0, 0, 0, 0], "gap", "at most max_gap steps"),
]


@pytest.mark.parametrize(("t", "x", "reason", "text"), BAD)
def test_bad_events_are_refused_or_dropped_and_counted(t: list[float], x: list[float], reason: str, text: str) -> None:
    program = program_of(leaky)
    e = np.zeros(4, [("x", np.asarray(x).dtype), ("t", np.asarray(t).dtype)])
    e["t"], e["x"] = t, x
    strict = EventStream(program, LINE, 1)
    before = strict.state()
    with pytest.raises(Refusal, match=text):
        strict.feed(e)
    after = strict.state()
    assert strict.seen == strict.waiting == 0 and all(np.array_equal(before[n], after[n]) for n in before)
    lenient = EventStream(program, LINE, 1, on_bad="drop")
    y = lenient.outputs(e)
    assert lenient.dropped == {"time": 0, "outside": 0, "order": 0, "gap": 0, "crowd": 0, reason: 1}
    good = EventStream(program, LINE, 1)
    assert np.array_equal(y, good.outputs(events(e["t"][[0, 1, 3]], e["x"][[0, 1, 3]])))


def test_unsigned_times_are_no_negative_ones() -> None:
    e = np.zeros(3, [("t", np.uint64), ("x", np.uint8)])
    e["t"] = [2**64 - 1, 5, 6]
    stream = EventStream(program_of(leaky), LINE, 1, on_bad="drop")
    assert len(stream.outputs(e)) == 2 and stream.dropped["time"] == 1


def test_more_events_in_a_step_than_floats_can_count() -> None:
    door = Admission(LINE, Fraction(10), "drop", None)
    door.admit(events(t=[0], x=[0]))
    door.clock = Clock(0, 0, MOST - 1)
    assert len(door.admit(events(t=[1, 2, 3, 10], x=[0, 1, 2, 3]))[0]) == 2 and door.dropped["crowd"] == 2
    strict = Admission(LINE, Fraction(10), "raise", None)
    strict.clock = Clock(0, 0, MOST)
    with pytest.raises(Refusal, match="in one step"):
        strict.admit(events(t=[1], x=[0]))
    assert strict.seen == 0


def test_what_is_no_array_of_events_is_always_refused() -> None:
    stream = EventStream(program_of(leaky), LINE, 1000, on_bad="drop")
    for wrong in (None, np.zeros((3, 2)), np.zeros(3, [("t", "i8")]), np.zeros(3, [("t", "U3"), ("x", "i2")])):
        with pytest.raises(Refusal, match="events"):
            stream.feed(wrong)
    with pytest.raises(Refusal, match="events"):
        stream.feed(np.zeros(3, [("t", "i8", 2), ("x", "i2")]))
    with pytest.raises(Refusal, match="events"):
        stream.feed(np.zeros((2, 2), [("t", "i8"), ("x", "i2")]))
    stream.feed(np.zeros(0, [("t", "i8"), ("x", "i2")]))
    assert stream.seen == 0
    with pytest.raises(Refusal, match="on_bad"):
        EventStream(stream.program, LINE, 1, on_bad="ignore")  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="sensor"):
        EventStream(stream.program, Sensor(7, polarities=1), 1)
    still = compile(nn.Sequential(R.Direct(4), R.Linear(6, 3), R.LIF()), [6])
    with pytest.raises(Refusal, match="begins with Direct"):
        EventStream(still, LINE, 1)


def test_states_are_files(tmp_path: Path) -> None:
    program, e = program_of(heard), recording(np.random.default_rng(3))
    y = EventStream(program, LINE, 1000).outputs(e)
    first = EventStream(program, LINE, 1000)
    first.feed(e[:140])
    parts = [np.tile(s.outputs, (s.times, 1)) for s in first.steps()]
    first.save(tmp_path / "state.safetensors")
    second = EventStream(program, LINE, 1000, state=stored(tmp_path / "state.safetensors"))
    assert second.seen == 140 and second.waiting == first.waiting
    assert np.array_equal(y, np.concatenate([*parts, second.outputs(e[140:])]))
    with pytest.raises(Refusal, match="dt = 500"):
        EventStream(program, LINE, 500, state=first.state())
    with pytest.raises(Refusal, match="state"):
        EventStream(program_of(leaky), LINE, 1000, state=first.state())
    with pytest.raises(Refusal, match="state"):
        EventStream(program, LINE, 1000, state=program.live().state())


WRONG = [
    (heard, "1.z.index", 0, 99),
    (heard, "1.z.index", 0, -1),
    (heard, "1.z.mark", 0, 10),
    (heard, "1.z.mark", 0, -1),
    (heard, "1.z.mark", 1, 7),
    (delayed, "0.head", 0, 5 * 9),
    (delayed, "0.head", 0, 4),
    (delayed, "2.head", 0, 3),
    (delayed, "2.head", 0, -1),
    (delayed, "3.phase", 0, 3),
    (resting, "2.awake", 0, 99),
    (resting, "2.awake", 0, -1),
    (resting, "2.awake", 1, -1),
    (resting, "2.awake", 1, 50),
    (resting, "2.awake", -1, 2),
    (resting, "2.reached", 0, -1),
    (resting, "5.reached", 0, 10**9),
    (leaky, "events:place", 0, 6),
    (leaky, "events:place", 0, -1),
    (leaky, "events:step", 0, 10**12),
    (leaky, "events:counts", 1, -1),
    (leaky, "events:clock", 5, 10**9),
]


@pytest.mark.parametrize(("make", "name", "place", "value"), WRONG)
def test_a_number_that_leads_out_of_memory_is_seen(make: object, name: str, place: int, value: int) -> None:
    program = program_of(make)
    stream = EventStream(program, LINE, 1000)
    stream.feed(recording(np.random.default_rng(4), 50, 2))
    list(stream.steps())
    state = stream.state()
    EventStream(program, LINE, 1000, state=state)
    if name == "1.z.index":
        state["1.z.value"][:1], state["1.z.mark"][0] = 1, max(1, state["1.z.mark"][0])
    if name == "2.awake" and place:
        state[name][0] = max(1, state[name][0])
    state[name][place] = value
    with pytest.raises(Refusal, match="state"):
        EventStream(program, LINE, 1000, state=state)


def test_a_state_of_nan_is_seen() -> None:
    program = program_of(leaky)
    state = EventStream(program, LINE, 1000).state()
    state["1.v"][3] = np.nan
    with pytest.raises(NonFinite, match=r"1\.v"):
        EventStream(program, LINE, 1000, state=state)


def test_the_turn_of_all_delays() -> None:
    assert period(program_of(leaky).lowered) == 1
    assert period(program_of(delayed).lowered) == 3 * 30  # slots of 5, 3 and 2; the last one moves every third step


@pytest.mark.parametrize(("make", "least"), [(perfect, 999_000), (leaky, 990_000)])
def test_a_long_silence_takes_no_time(make: object, least: int) -> None:
    program = program_of(make)
    if make is leaky:
        program = compile(nn.Sequential(R.Linear(6, 9, bias=False), R.LIF(tau=20.0)), [6])
    stream = EventStream(program, LINE, 1000)
    stream.feed(events(t=[0, 10**9], x=[0, 1]))
    found = list(stream.steps())
    assert stream.done == 10**6 and stream.skipped > least and sum(s.length for s in found) < 10_000
    assert sum(s.length * s.times for s in found) == 10**6


@pytest.mark.parametrize("count", [10_000_000])
def test_ten_million_events_in_flat_memory(count: int) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    model = nn.Sequential(R.Linear(32, 16), R.LIF(), R.Linear(16, 4), R.LeakyIntegrator()).eval()
    stream = EventStream(compile(model, [32]), Sensor(32, polarities=1), 1000, on_bad="drop")
    chunk, now, largest, bad, begun = 50_000, 0, 0, 0, time.perf_counter()
    total, sizes, after = 0.0, [], 0
    for number in range(count // chunk):
        t = now + np.cumsum(rng.integers(0, 10, chunk))
        x = rng.integers(0, 32, chunk)
        if number % 10 == 5:
            x[17] = 32
            bad += 1
        now = int(t[-1])
        stream.feed(events(t, x))
        for s in stream.steps():
            total += float(s.outputs.sum())
        state = stream.state()
        sizes.append(sum(a.nbytes for a in state.values()))
        if number == 20:
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        largest = max(largest, stream.waiting)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - after
    assert stream.seen == count and stream.dropped["outside"] == bad == count // chunk // 10 and np.isfinite(total)
    assert abs(stream.done - now // 1000) <= 1
    assert largest < 2000 and max(sizes) < 40_000 and grown < 20_000  # kilobytes
    assert time.perf_counter() - begun < 30
