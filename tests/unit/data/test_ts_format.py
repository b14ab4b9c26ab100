from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.ts_format import read_ts

HEADER = "#a comment\n@problemName Some\n@dimensions 2\n@classLabel true rest move\n@data\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "a.ts"
    path.write_text(text, encoding="utf-8")
    return path


def test_series_of_unequal_length(tmp_path: Path) -> None:
    x, y, classes = read_ts(written(tmp_path, f"{HEADER}1,2,3:4,5,-6E-1:move\n\n7:8:rest\n"))
    assert classes == ("rest", "move") and y.tolist() == [1, 0] and y.dtype == np.int64
    assert [a.shape for a in x] == [(3, 2), (1, 2)] and x[0].dtype == np.float32
    assert np.array_equal(x[0], np.array([[1, 4], [2, 5], [3, -0.6]], dtype=np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected series after a line @data; got none"),
        (HEADER, "expected series after a line @data; got none"),
        ("1,2:rest", "line 1: expected a line of the header.*got '1,2:rest'"),
        ("@data\n1,2:rest", "line 2: expected a class at the end, named after @classLabel true; got 'rest'"),
        ("@classLabel false\n@data\n1,2:rest", "named after @classLabel true"),
        (HEADER + "1:2:run", "line 6: expected a class at the end, one of rest move; got 'run'"),
        (HEADER + "1:2", "a class at the end"),
        (HEADER + "1,2:3,?:rest", "numbers; time stamps and missing values are not read.*'?'"),
        (HEADER + "(0,1),(1,2):(0,1),(1,2):rest", "time stamps"),
        (HEADER + ":1:rest", "numbers"),
        (HEADER + "1:rest", "line 6: expected 2 channels; got 1"),
        (HEADER + "rest", "expected 2 channels; got 0"),
        (HEADER.replace("@dimensions 2\n", "") + "1:2:rest\n1:2:3:rest", "line 6: expected 2 channels; got 3"),
        (HEADER.replace("@dimensions 2", "@dimensions two") + "1:2:rest", "expected two channels"),
        (HEADER + "1,2:3:rest", r"channels of one length; got \[2, 1\]"),
    ],
)
def test_anything_else_is_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=message):
        read_ts(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(bytes(range(256)))
    with pytest.raises(Refusal, match="a line of the header"):
        read_ts(tmp_path / "a.ts")
