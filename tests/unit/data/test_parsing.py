from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.parsing import read_npz, read_text, reading


def test_arrays_that_are_missing_are_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    with pytest.raises(Refusal, match=r"a\.npz: expected a well-formed file; got KeyError: .*b is not a file"):
        read_npz(tmp_path / "a.npz", "a", "b")


def test_objects_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object))
    with pytest.raises(Refusal, match="allow_pickle=False"):
        read_npz(tmp_path / "a.npz", "a")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY", b"words"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(Refusal, match=r"a\.npz: expected a well-formed file"):
        read_npz(tmp_path / "a.npz", "a")


def test_text_keeps_its_line_ends_and_must_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é\r\n\n".encode())
    assert read_text(tmp_path / "a.txt") == "é\r\n\n"
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(Refusal, match=r"a\.txt.*UnicodeDecodeError"):
        read_text(tmp_path / "a.txt")


def test_a_refusal_passes_as_it_is() -> None:
    known = Refusal("a", expected="b", got="c", do="d")
    with pytest.raises(Refusal) as raised, reading(Path("x")):
        raise known
    assert raised.value is known


def test_what_is_our_own_mistake_is_not_blamed_on_the_file() -> None:
    with pytest.raises(AttributeError), reading(Path("x")):
        raise AttributeError
