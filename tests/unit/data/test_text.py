import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.core.checks import Refusal
from ranvier.data.text import Text


@given(st.text(alphabet="añ漢🧠 \n", max_size=60), st.permutations("añ漢🧠 \n"))
def test_numbers_and_text_stand_for_each_other(text: str, symbols: list[str]) -> None:
    a = Text(text, "".join(symbols))
    ids = a.encoded()
    assert ids.dtype == np.int64 and len(ids) == len(a) == len(text)
    assert [symbols[i] for i in ids] == list(text) and a.decoded(ids) == text


def test_what_is_encoded_is_the_callers() -> None:
    a = Text("abab", "ab")
    a.encoded()[:] = 1
    assert a.encoded().tolist() == [0, 1, 0, 1]


def test_a_character_that_is_no_symbol_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match=r"among the 2 symbols; got 'c'"):
        Text("abc", "ab")


def test_symbols_that_repeat_are_refused_by_name() -> None:
    with pytest.raises(Refusal, match="'b' twice"):
        Text("ab", "abcb")


@pytest.mark.parametrize("ids", [[0, 2], [-1]])
def test_numbers_of_no_symbol_are_refused(ids: list[int]) -> None:
    with pytest.raises(Refusal, match="numbers from 0 to 1"):
        Text("ab", "ab").decoded(ids)
    assert Text("ab", "ab").decoded([]) == ""
