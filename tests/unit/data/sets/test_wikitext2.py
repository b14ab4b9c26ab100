import os
from pathlib import Path

import pytest

from ranvier.data.sets.wikitext2 import WikiText2

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in WikiText2.files),
    reason="needs RANVIER_DATA with text/wikitext2_*.txt in it",
)


def test_words_and_characters_are_those_published() -> None:
    valid, test = WikiText2().load("valid"), WikiText2().load("test")
    assert len(valid.text.split()) == 213_886 and len(test.text.split()) == 241_211
    assert (len(valid), len(test)) == (1_120_192, 1_255_018)
    assert valid.text.startswith(" \n = Homarus gammarus = \n") and test.text.startswith(" \n = Robert <unk> = \n")


def test_both_splits_have_the_same_symbols() -> None:
    valid, test = WikiText2().load("valid"), WikiText2().load("test")
    assert valid.symbols == test.symbols and set(valid.symbols) == set(valid.text) | set(test.text)
    assert test.decoded(test.encoded()) == test.text
