"""Whatever comes in at the event door or out of a state file: steps or a refusal, and no memory but the program's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import ranvier
from ranvier.core.checks import NonFinite, Refusal
from ranvier.core.files import save
from ranvier.data.events import Sensor
from ranvier.deploy.engine.events import EventStream, stored
from ranvier.deploy.engine.program import Program, compile
from ranvier.nn.synapses.delayed_linear import DelayedLinear

R = ranvier
CAMERA = Sensor(3, 2, 2)
LEAST = {"time": 0, "outside": 0, "order": 0, "gap": 0, "crowd": 0}


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    first = [R.Conv2d(2, 3, 3, padding=1, bias=False), R.LIF(threshold=0.1), R.TimePool(2), R.DelayLine([0, 1])]
    heard = R.Recurrent(R.LIF(threshold=0.1), nn.Linear(5, 5, bias=False))
    rest = [nn.Flatten(2), DelayedLinear(36, 5, max_delay=3, bias=False).rounded(), heard]
    return compile(nn.Sequential(*first, *rest).eval(), [2, 2, 3])


NUMBERS = st.one_of(
    st.integers(-2, 5), st.integers(0, 10**6), st.sampled_from([2**53, 2**53 + 2, 2**60, -(2**60), 2**62, 0])
)
KINDS = st.sampled_from(["i8", "u8", "f8", "i4", "u2", "i1", "f4", "?", "U2", "O", "f2", "c16", "M8[us]"])


@st.composite
def chunks(draw: st.DrawFn) -> np.ndarray:
    names = draw(st.permutations(["t", "x", "y", "p"])) if draw(st.integers(0, 9)) else ["t", "x", "q"]
    usual = {"t": "i8", "x": "i2", "y": "i2", "p": "?"}
    odd = draw(st.sampled_from([None, None, *names]))
    kinds = [(n, draw(KINDS) if n == odd else usual.get(n, "i2")) for n in names]
    array = np.zeros(draw(st.integers(0, 6)), kinds)
    for name in names:
        for i in range(len(array)):
            try:
                with np.errstate(all="ignore"):
                    array[name][i] = draw(NUMBERS) if name == "t" or draw(st.integers(0, 4)) == 0 else i % 2
            except (OverflowError, ValueError, TypeError):
                pass
        if array[name].dtype.kind == "f" and len(array) and draw(st.booleans()):
            array[name][-1] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.5]))
    return array


@settings(max_examples=300, deadline=None)
@given(
    st.lists(chunks(), max_size=4),
    st.sampled_from(["raise", "drop"]),
    st.sampled_from([1, 3, 1000 / 3]),
    st.sampled_from([None, 0, 7]),
)
def test_any_events(program: Program, given: list[np.ndarray], on_bad: str, dt: float, start: int | None) -> None:
    stream = EventStream(program, CAMERA, dt, start=start, on_bad=on_bad, max_gap=500)  # type: ignore[arg-type]
    good = 0
    for chunk in given:
        before = stream.state()
        try:
            stream.feed(chunk)
            good += len(chunk)
        except Refusal:
            after = stream.state()
            assert all(np.array_equal(before[n], after[n]) for n in before)
        for s in stream.steps(most=64):
            assert np.isfinite(s.outputs).all()
    assert stream.seen == good and sum(stream.dropped.values()) <= good
    assert on_bad == "drop" or stream.dropped == LEAST
    list(stream.finish())
    assert stream.waiting == 0
    EventStream(program, CAMERA, dt, state=stream.state())


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_state(program: Program, data: st.DataObject) -> None:
    """A state in which some numbers are others is refused, or goes on as any."""
    stream = EventStream(program, CAMERA, 10)
    e = np.zeros(40, [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "?")])
    e["t"], e["x"], e["y"] = np.arange(40) * 7, np.arange(40) % 3, np.arange(40) % 2
    stream.feed(e)
    list(stream.steps())
    state = stream.state()
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(state)))
        what = data.draw(st.integers(0, 9))
        a = state[name]
        if what == 0:
            del state[name]
            break
        if what == 1:
            state[name] = a[:-1] if len(a) else np.zeros(3, a.dtype)
        elif what == 2:
            state[name] = a.astype(np.int32 if a.dtype.kind == "f" else np.float32)
        elif len(a):
            flat = a.reshape(-1)
            value = data.draw(st.sampled_from([-1, 0, 1, 2, 3, 5, 1000, -(2**31), 2**31 - 1]))
            flat[data.draw(st.integers(0, len(flat) - 1))] = value
    try:
        other = EventStream(program, CAMERA, 10, state=state)
    except (Refusal, NonFinite):
        return
    e["t"] += max(other.admission.clock.latest, 0)
    other.feed(e)
    made = 0
    for s in other.steps():
        made += s.length
        if made > 10_000:
            break


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 5000), flip=st.integers(1, 255), cut=st.integers(0, 4000))
def test_any_state_file(program: Program, tmp_path: Path, place: int, flip: int, cut: int) -> None:
    file = tmp_path / "state.safetensors"
    EventStream(program, CAMERA, 10).save(file)
    data = bytearray(file.read_bytes())
    data[place % len(data)] ^= flip
    file.write_bytes(data[: len(data) - cut % len(data)] if cut % 3 == 0 else data)
    try:
        stream = EventStream(program, CAMERA, 10, state=stored(file))
    except (Refusal, NonFinite):
        return
    list(stream.finish())


def test_tensors_of_other_kinds_are_refused(tmp_path: Path) -> None:
    save({"a": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    with pytest.raises(Refusal, match="bfloat16"):
        stored(tmp_path / "a.safetensors")
