"""Events and frames as text: JSON and CSV, in pieces of any length, and lines that are none of them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.core.checks import Refusal
from ranvier.data.event_lines import LONGEST, Lines

CAMERA = ("t", "x", "y", "p")


@pytest.mark.parametrize(
    "text",
    [
        '{"t": 1, "x": 2, "y": 3, "p": true}\n\n{"p": 0, "t": 4.5, "x": 5, "y": 6, "more": "x"}\n',
        "t,x,y,p\n1,2,3,1\n4.5,5,6,0\n",
        'on,"P", Y,x,t\n7,1,3,2,1\r\n8,0,6,5,4.5\r\n',
        "1,2,3,1\n4.5,5,6,0\n",
    ],
)
def test_events(text: str) -> None:
    whole = Lines((2, 8, 8), CAMERA).feed(text.encode())
    assert whole.tolist() == [(1, 2, 3, 1), (4.5, 5, 6, 0)] and whole.dtype.names == CAMERA
    lines = Lines((2, 8, 8), CAMERA)
    parts = [lines.feed(bytes([b])) for b in text.rstrip().encode()]
    parts = [p for p in [*parts, lines.end()] if len(p)]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    "text",
    ["[[0, 1], [2, 3]]\n[4, 5, 6, 7]\n", '{"frame": [0, 1, 2, 3]}\n{"frame": [4,5,6,7]}\n', "0,1,2,3\n4,5,6,7\n"],
)
def test_frames(text: str) -> None:
    found = Lines((2, 2), CAMERA).feed(text.encode())
    assert found.tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]] and found.dtype == np.float32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello\n", "line 1: expected an event or a frame; got 'hello'"),
        ('{"t": 1, "x": 2}\n', "no y"),
        ('{"t": 1, "x": 2, "y": 3, "p": 1}\n{"t": null, "x": 2, "y": 3, "p": 1}\n', "line 2: expected an event"),
        ('{"t": 1, "x": 2, "y": 3, "p": 1}\n[1, 2]\n', "line 2"),
        ('{"t": 1, "x": [2], "y": 3, "p": 1}\n', "line 1"),
        ('{"t": 1' + "0" * 400 + ', "x": 2, "y": 3, "p": 1}\n', "line 1"),
        ("[1, 2, 3]\n", "3 numbers, not 128"),
        ("1,2\n", "2 numbers"),
        ("t,x,y,p\n1,2\n", "line 2"),
        ("[" * 10_000 + "\n", "line 1"),
    ],
)
def test_lines_that_are_none(text: str, said: str) -> None:
    with pytest.raises(Refusal, match=said):
        Lines((2, 8, 8), CAMERA).feed(text.encode())
    lines = Lines((2, 8, 8), CAMERA, "drop")
    lines.feed(text.encode())
    assert lines.unreadable == 1


def test_a_bad_first_line_decides_nothing() -> None:
    lines = Lines((2, 2), CAMERA, "drop")
    assert lines.feed(b'[1, 2]\n{"x": 1}\nx\n{"t": 1, "x": 2, "y": 3, "p": 1}\n').tolist() == [(1, 2, 3, 1)]
    assert lines.unreadable == 3


def test_the_end_is_cut_off() -> None:
    lines = Lines((2, 8, 8), CAMERA, "drop", "pipe")
    assert len(lines.feed(b'{"t": 1, "x": 2, "y": 3, "p": 1}\n{"t": 2, "x"')) == 1
    with pytest.raises(Refusal, match=r"pipe line 2: expected a whole line; got '.*cut off there"):
        lines.end()


def test_a_line_without_an_end_takes_no_more_memory() -> None:
    lines = Lines((2,), ("t", "x"), "drop")
    for _ in range(3):
        lines.feed(b"1" * (LONGEST // 2 + 1))
    assert len(lines.left) <= LONGEST and lines.unreadable == 1


NUMBERS = st.one_of(st.integers(), st.floats(), st.none(), st.booleans(), st.text(max_size=3))
EVENT = st.dictionaries(st.sampled_from(["t", "x", "y", "p", "frame", "q"]), NUMBERS).map(json.dumps)
LINE = st.one_of(EVENT, st.lists(NUMBERS, max_size=5).map(json.dumps), st.text(max_size=20))


@given(st.lists(LINE, max_size=6), st.binary(max_size=20), st.integers(1, 9), st.sampled_from(["raise", "drop"]))
def test_any_text_gives_arrays_or_a_refusal(texts: list[str], tail: bytes, size: int, on_bad: str) -> None:
    data = "\n".join(texts).encode("utf-8", "surrogatepass") + b"\n" + tail
    lines = Lines((2, 2), CAMERA, on_bad)  # type: ignore[arg-type]
    try:
        for start in range(0, len(data), size):
            found = lines.feed(data[start : start + size])
            assert found.dtype.names == CAMERA or found.shape[1:] == (2, 2)
        lines.end()
    except Refusal as why:
        assert "line" in str(why)
