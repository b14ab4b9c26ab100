import sys
from hashlib import sha256 as reference
from pathlib import Path

import pytest

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data.origin import digest, local, packaged, verified

CONTENT = b"spikes" * 100_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "a.bin"
    path.write_bytes(CONTENT)
    return path


def test_digest_is_that_of_the_whole_file(file: Path) -> None:
    assert digest(file) == reference(CONTENT).hexdigest()


def test_verified_gives_the_path_or_refuses_with_both_checksums(file: Path) -> None:
    good = reference(CONTENT).hexdigest()
    assert verified(file, good) == file
    with pytest.raises(Refusal, match=f"a.bin: expected a file with sha256 {'0' * 64}; got {good}. Fetch it."):
        verified(file, "0" * 64, do="Fetch it.")


def test_local_looks_into_the_named_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = digest(file)
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    assert local("set/a.bin", good) == file
    assert local("set/b.bin", good) is None
    with pytest.raises(Refusal, match="Copy it anew"):
        local("set/a.bin", "0" * 64)


@pytest.mark.parametrize("value", [None, ""])
def test_local_finds_nothing_without_the_variable(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("RANVIER_DATA", value)
    assert local("set/a.bin", "0" * 64) is None


def test_local_refuses_a_folder_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "misspelt"))
    with pytest.raises(Refusal, match="RANVIER_DATA: expected a folder that exists"):
        local("set/a.bin", "0" * 64)


@pytest.fixture
def package(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that fails when it is imported."""
    (tmp_path / "set" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "set", raising=False)
    return "the-set==1.0: set/a.bin"


def test_packaged_finds_the_file_without_importing(package: str, file: Path) -> None:
    assert packaged(package, digest(file)) == file


def test_packaged_refuses_with_the_line_that_installs(package: str, file: Path) -> None:
    install = "pip install 'the-set==1.0'"
    with pytest.raises(Refusal, match=install):
        packaged(package, "0" * 64)
    with pytest.raises(Refusal, match=f"set without it.*{install}"):
        packaged("the-set==1.0: set/b.bin", digest(file))
    with pytest.raises(MissingPackage, match=f"no_such_set is not installed.*{install}"):
        packaged("the-set==1.0: no_such_set/a.bin", digest(file))
