"""Japanese vowels and basic motions: what the contract doesn't show."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data.sets import basic_motions, japanese_vowels
from ranvier.data.sets.basic_motions import BasicMotions
from ranvier.data.sets.japanese_vowels import JapaneseVowels


def there(kind: type[BasicMotions] | type[JapaneseVowels]) -> bool:
    try:
        return bool([file.find() for file in kind.files])
    except (Refusal, MissingPackage):
        return False


@pytest.mark.skipif(not there(JapaneseVowels), reason="needs sktime 1.2.0, or RANVIER_DATA with time_series in it")
def test_the_vowels_are_those_of_the_source() -> None:
    train, test = JapaneseVowels().load("train"), JapaneseVowels().load("test")
    assert np.bincount(train.y).tolist() == [30] * 9
    assert np.bincount(test.y).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(x) for x in (*train.x, *test.x)]
    assert min(lengths) == 7 and max(lengths) == 29
    assert train.x[0].shape == (20, 12) and train.x[0][0, :2] == pytest.approx([1.860936, -0.207383])
    assert train.group[[0, -1]].tolist() == [0, 269] and test.group[[0, -1]].tolist() == [270, 639]
    people = JapaneseVowels().people()
    assert np.array_equal(people[test.group], test.y + 1) and np.array_equal(people[train.group], train.y + 1)
    assert train.channels[:2] == ("c1", "c2") and train.rate == pytest.approx(156.25)


@pytest.mark.skipif(not there(BasicMotions), reason="needs sktime 1.2.0, or RANVIER_DATA with time_series in it")
def test_the_motions_are_those_of_the_archive() -> None:
    for split, first in zip(BasicMotions.splits, ((0.079106, 0.394032), (-0.740653, 0.756509)), strict=True):
        samples = BasicMotions().load(split)
        assert np.bincount(samples.y).tolist() == [10] * 4 and {x.shape for x in samples.x} == {(100, 6)}
        assert samples.x[0][0, :2] == pytest.approx(first) and samples.rate == 10.0
    standing, running = (
        np.mean([x.std() for x, y in zip(samples.x, samples.y, strict=True) if y == k]) for k in (0, 1)
    )
    assert running > 5 * standing


@pytest.mark.parametrize("kind", [JapaneseVowels, BasicMotions])
def test_a_changed_file_is_refused_before_it_is_opened(
    kind: type[JapaneseVowels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "time_series").mkdir()
    (tmp_path / kind.files[0].path).write_bytes(b"@data")
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    for module in (japanese_vowels, basic_motions):
        monkeypatch.setattr(module, "read_ts", lambda *_: pytest.fail("opened"))
    with pytest.raises(Refusal, match=r"TRAIN\.ts: expected a file with sha256"):
        kind().load("train")


def test_without_sktime_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sktime", None)
    with pytest.raises(MissingPackage, match=r"pip install 'sktime==1\.2\.0'"):
        JapaneseVowels().load("train")
