import numpy as np
import pytest

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.recording import Recording


def made(steps: int = 10) -> Recording:
    x = np.arange(steps * 2, dtype=np.float32).reshape(steps, 2)
    return Recording(x=x, y=x[:, :1].copy(), channels=("a", "b"), targets=("speed",), rate=5.0)


def test_a_part_is_those_steps_with_all_that_is_known() -> None:
    whole = made()
    part = whole.part(2, 5)
    assert len(part) == 3 and part.seconds == 0.6
    assert np.array_equal(part.x, whole.x[2:5]) and np.array_equal(part.y, whole.y[2:5])
    assert (part.channels, part.targets, part.rate) == (whole.channels, whole.targets, whole.rate)


def test_a_part_is_a_copy() -> None:
    whole = made()
    whole.part(0, 5).x[:] = 7
    whole.part(0, 5).y[:] = 7
    assert np.array_equal(whole.x, made().x) and np.array_equal(whole.y, made().y)


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 5), (6, 5), (0, 11)])
def test_a_part_that_is_not_there_is_refused(start: int, stop: int) -> None:
    with pytest.raises(Refusal, match=f"0 <= start < stop <= 10; got start={start}, stop={stop}"):
        made().part(start, stop)


def test_without_a_rate_there_are_no_seconds() -> None:
    assert Recording(x=np.zeros((3, 1)), y=np.zeros((3, 1))).seconds is None


@pytest.mark.parametrize(("x", "y"), [((3, 1), (4, 1)), ((3,), (3, 1)), ((3, 1), (3,))])
def test_unequal_lengths_and_other_shapes_are_refused(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(Refusal, match="of the same length; got"):
        Recording(x=np.zeros(x), y=np.zeros(y))


def test_too_few_names_are_refused() -> None:
    with pytest.raises(Refusal, match=r"Recording channels: expected 2 names; got 1"):
        Recording(x=np.zeros((3, 2)), y=np.zeros((3, 1)), channels=("a",))
    with pytest.raises(Refusal, match=r"Recording targets: expected 1 names; got 2"):
        Recording(x=np.zeros((3, 2)), y=np.zeros((3, 1)), targets=("a", "b"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_by_step_and_column(bad: float) -> None:
    x, y = np.zeros((5, 2)), np.zeros((5, 1))
    x[3, 1] = bad
    with pytest.raises(NonFinite, match=r"channels.*step 3 of b"):
        Recording(x=x, y=y, channels=("a", "b"))
    with pytest.raises(NonFinite, match=r"targets.*step 3 of 1"):
        Recording(x=y, y=x)
