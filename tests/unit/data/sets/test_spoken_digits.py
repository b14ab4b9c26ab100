import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.sets.spoken_digits import SpokenDigits

DATA = os.environ.get("RANVIER_DATA", "")
needs_copy = pytest.mark.skipif(
    not DATA or not (Path(DATA) / "fsdd").is_dir(), reason="needs RANVIER_DATA with fsdd in it"
)
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


@needs_copy
def test_the_official_split_tests_the_first_five_of_fifty() -> None:
    train, test = SpokenDigits().load("train"), SpokenDigits().load("test")
    assert sorted([*train.group, *test.group]) == list(range(3000))
    people = SpokenDigits().people()
    for part, count in ((train, 45), (test, 5)):
        table = np.zeros((10, 6), dtype=int)
        np.add.at(table, (part.y, people[part.group] - 1), 1)
        assert (table == count).all()
    assert test.rate == 8000.0


@needs_copy
def test_the_recordings_are_those_of_the_file() -> None:
    assert [str(name) for name in np.load(Path(DATA) / SpokenDigits.files[0].path)["speaker_names"]] == list(SPEAKERS)
    test = SpokenDigits().load("test")
    x = test.x[0]
    assert x.shape == (2384, 1) and x.dtype == np.float32
    assert x[:3, 0] * 32768 == pytest.approx([-1489, -962, -606])
    x[:] = 7
    assert abs(test.x[0]).max() <= 1


@needs_copy
@pytest.mark.parametrize("name", SPEAKERS)
def test_one_speaker_is_left_out(name: str) -> None:
    data = SpokenDigits()
    train, test = data.load(f"train-{name}"), data.load(f"test-{name}")
    assert sorted([*train.group, *test.group]) == list(range(3000)) and np.bincount(test.y).tolist() == [50] * 10
    people = data.people()
    assert set(people[test.group]) == {1 + SPEAKERS.index(name)}
    assert set(people[train.group]).isdisjoint(people[test.group])


def test_without_the_copy_it_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    with pytest.raises(Refusal, match=r"github\.com/Jakobovski/free-spoken-digit-dataset.*Set RANVIER_DATA"):
        SpokenDigits().load("test")


def test_a_changed_file_is_refused_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fsdd").mkdir()
    (tmp_path / SpokenDigits.files[0].path).write_bytes(b"another file")
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(Refusal, match=r"fsdd_8khz_int16\.npz: expected a file with sha256"):
        SpokenDigits().load("test")
