"""States from files and other hands: looked through before native code follows a number in them to a place in memory."""

from collections.abc import Mapping
from math import lcm
from typing import cast

import numpy as np

from ranvier.core.checks import NonFinite, Refusal
from ranvier.deploy.engine import kernels as k
from ranvier.deploy.engine.lowered import At, Lowered

_DO = "Give what state() returned, or None to start at rest."


def require_state(lowered: Lowered, state: Mapping[str, np.ndarray]) -> None:
    """Nothing, where `state` is one that a run of the program can have: names, shapes, kinds, and all numbers of places.

    Raises: Refusal naming what is wrong; NonFinite for NaN and Inf.
    """
    for name in lowered.states.keys() | state.keys():
        if name not in lowered.states or name not in state:
            there = name in state
            expected = "a name of this program" if there else "the state of this program"
            raise Refusal(f"state {name!r}", expected=expected, got="another one" if there else "none", do=_DO)
        mine, given = cast(np.ndarray, lowered.arrays[lowered.states[name]]), state[name]
        if not isinstance(given, np.ndarray) or given.shape != mine.shape or given.dtype != mine.dtype:
            got = f"{given.dtype} of shape {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
            raise Refusal(f"state {name!r}", expected=f"{mine.dtype} of shape {mine.shape}", got=got, do=_DO)
        if given.dtype.kind == "f" and not np.isfinite(given).all():
            raise NonFinite(f"state {name!r}: expected finite numbers, got NaN or Inf. Start at rest.")
    names = {number: name for name, number in lowered.states.items()}
    for op in lowered.ops:
        if op[0] == k.ECHO:
            _within(state, names[_number(op[9])], 0, _size(op[8]), 1)
        elif op[0] == k.ARRIVE:
            _within(state, names[_number(op[2])], 0, _size(op[4]), _size(op[3]))
        elif op[0] == k.RESTING:
            _require_rest(state, names[_number(op[6])], names[_number(op[7])])
        elif op[0] == k.TIME_POOL:
            _within(state, names[_number(op[6])], 0, _size(op[7]), 1)
    for name in state:
        if name.endswith(".mark"):
            _require_list(state, name.removesuffix(".mark"))


def clocks(lowered: Lowered) -> list[int]:
    """The numbers of the arrays whose last entry counts the steps: of neurons that rest, nothing else moves in silence."""
    return [_number(op[7]) for op in lowered.ops if op[0] == k.RESTING]


def period(lowered: Lowered) -> int:
    """Steps after which all counters of delays and pools stand where they stood."""
    slots = [_size(op[8]) for op in lowered.ops if op[0] == k.ECHO]
    slots += [_size(op[4]) // _size(op[3]) for op in lowered.ops if op[0] == k.ARRIVE]
    return lowered.every * lcm(*slots)


def _number(word: int | At) -> int:
    assert isinstance(word, At)
    return word.number


def _size(word: int | At) -> int:
    assert isinstance(word, int)
    return word


def _within(state: Mapping[str, np.ndarray], name: str, low: int, high: int, unit: int) -> None:
    values = state[name]
    if (values < low).any() or (values >= high).any() or (values % unit).any():
        expected = f"from {low} to below {high}" + (f", multiples of {unit}" if unit > 1 else "")
        raise Refusal(f"state {name!r}", expected=expected, got=str(values.tolist()), do=_DO)


def _require_rest(state: Mapping[str, np.ndarray], awake: str, reached: str) -> None:
    """The vectors of neurons that are awake: as many as are listed, each once and marked, and no others; or all for some steps."""
    vectors = len(state[reached]) - 1
    count, listed, marked = int(state[awake][0]), state[awake][1 : 1 + vectors], state[awake][1 + vectors :]
    fine = -k.UNWATCHED <= count <= vectors
    if count < 0:
        fine = fine and not marked.any()
    elif fine:
        mine = np.zeros(vectors, state[awake].dtype)
        inside = (listed[:count] >= 0) & (listed[:count] < vectors)
        mine[listed[:count][inside]] = 1
        fine = bool(inside.all()) and int(mine.sum()) == count and np.array_equal(mine, marked)
    if not fine:
        raise Refusal(f"state {awake!r}", expected="the list of who is awake", got="a list that does not agree", do=_DO)
    stamps = state[reached]
    if (stamps < 0).any() or stamps.max() != stamps[-1] or stamps[-1] > 2**62:
        raise Refusal(f"state {reached!r}", expected="steps up to the last one", got="others", do=_DO)


def _require_list(state: Mapping[str, np.ndarray], name: str) -> None:
    """A recurrent layer's last spikes: as many as are listed, each once, and no others."""
    value, index, mark = (state[f"{name}.{part}"] for part in ("value", "index", "mark"))
    count, ones = (int(n) for n in mark)
    fine = 0 <= count <= len(value) and ones in (0, 1)
    if fine:
        listed = index[:count]
        fine = bool(((listed >= 0) & (listed < len(value))).all()) and bool((np.diff(np.sort(listed)) > 0).all())
    if fine:
        fine = np.count_nonzero(value) == count == np.count_nonzero(value[listed])
    if fine and ones:
        fine = bool((value[listed] == 1).all())
    if not fine:
        raise Refusal(f"state {name!r}", expected="the list of what is not 0", got="a list that does not agree", do=_DO)
