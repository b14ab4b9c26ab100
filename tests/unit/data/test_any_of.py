from pathlib import Path

import pytest

from ranvier.core.checks import Refusal
from ranvier.data.origin import File, any_of, digest


def test_the_first_that_is_there_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    official = File("a.gz", "0" * 64, urls=("https://example.org/a.gz",))
    with pytest.raises(Refusal, match=r"a\.gz: expected the file on this machine.*ranvier data get"):
        any_of([official, File("a.gz", "1" * 64)], "a.gz")
    copy = tmp_path / "a.gz"
    copy.write_bytes(b"rebuilt")
    assert any_of([File("b.gz", "2" * 64), official, File("a.gz", digest(copy))], "a.gz") == copy
    with pytest.raises(Refusal, match="expected a file with sha256 0000"):
        any_of([official, File("a.gz", "1" * 64)], "a.gz")
