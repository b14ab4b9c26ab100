import os
from pathlib import Path

import pytest

from ranvier.data.sets.tiny_shakespeare import TinyShakespeare

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in TinyShakespeare.files),
    reason="needs RANVIER_DATA with text/tinyshakespeare.txt in it",
)


def test_the_splits_are_the_file_in_order() -> None:
    parts = [TinyShakespeare().load(split) for split in TinyShakespeare.splits]
    assert [len(part) for part in parts] == [1_003_854, 55_770, 55_770]
    assert DATA
    whole = (Path(DATA) / TinyShakespeare.files[0].path).read_bytes().decode("utf-8")
    assert len(whole) == 1_115_394 and "".join(part.text for part in parts) == whole
    assert whole.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n")


def test_all_splits_have_the_same_65_symbols() -> None:
    symbols = {TinyShakespeare().load(split).symbols for split in TinyShakespeare.splits}
    assert symbols == {"\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"}


def test_numbers_become_the_text_again() -> None:
    valid = TinyShakespeare().load("valid")
    ids = valid.encoded()
    assert ids.min() >= 0 and ids.max() < 65 and valid.decoded(ids) == valid.text
    few = TinyShakespeare().smoke("valid")
    assert len(few) == 1000 and few.encoded().tolist() == ids[:1000].tolist()
