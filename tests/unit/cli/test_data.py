"""`ranvier data`, on data sets of the test's own where files are fetched."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ranvier.cli import data
from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover
from ranvier.data.origin import File, digest
from ranvier.data.sets.digits import Digits
from ranvier.data.sets.mnist import MNIST
from ranvier.data.sets.spoken_digits import SpokenDigits

ABSENT = "0" * 64


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a folder of copies with nothing in them."""
    (tmp_path / "copies").mkdir()
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "copies"))
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def ranvier(*words: str) -> Result:
    done = CliRunner().invoke(data.app, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def put(path: Path, content: bytes = b"content") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return digest(path)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been downloaded; a file with "gone" in its name can't be."""
    asked: list[str] = []

    def download(file: File, progress: bool = True) -> Path:
        asked.append(file.path)
        if "gone" in file.path:
            raise Refusal(file.path, expected="a download", got="HTTP 404", do="Try again later.")
        put(file.place)
        return file.place

    monkeypatch.setattr(data, "download", download)
    return asked


@pytest.fixture
def with_files(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *files, kind=MNIST: monkeypatch.setattr(kind, "files", files)


def test_the_list_names_every_set_and_hashes_nothing(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(empty / "copies" / MNIST.files[0].path, b"12345")
    put(MNIST.files[1].place)
    monkeypatch.setattr("ranvier.data.origin.digest", lambda *_: pytest.fail("hashed"))
    rows = {row["name"]: row for row in json.loads(ranvier("list", "--json").stdout)}
    assert rows.keys() == discover("ranvier.data.sets", base="dataset").keys()
    assert rows["mnist"]["found"] == "1 copy, 1 downloaded, 2 missing"
    assert rows["mnist"]["bytes"] == 5 + 7 + 1_648_877 + 4_542
    assert rows["digits"]["found"] == "package" and rows["spoken-digits"]["found"] == "missing"
    assert rows["mnist"]["licence"] == MNIST.licence and rows["mnist"]["summary"].startswith("Handwritten")
    table = ranvier("list").stdout
    assert "spoken-digits" in table and "15.4 MB" in table and str(empty)[:20] in table


def test_info_tells_the_facts(empty: Path) -> None:
    text = ranvier("info", "mnist").stdout
    for fact in (
        MNIST.citation,
        MNIST.licence,
        MNIST.files[0].checksum,
        *MNIST.files[0].urls,
        "train, test",
        "missing",
    ):
        assert fact in text
    assert ">>>" not in text and text.count("mnist/train-images-idx3-ubyte.gz: missing") == 1
    facts = json.loads(ranvier("info", "digits", "--json").stdout)
    assert facts["classes"] == list("0123456789") and facts["splits"] == ["train", "test"]
    (file,) = facts["files"]
    assert file["where"] == "package" and file["at"].endswith("digits.csv.gz") and file["bytes"] > 0
    assert file["checksum"] == Digits.files[0].checksum


@pytest.mark.parametrize("words", [("info", "mnits"), ("get", "mnits")])
def test_an_unknown_name_is_refused_with_the_nearest(words: tuple[str, ...]) -> None:
    with pytest.raises(Refusal, match="Did you mean 'mnist'"):
        ranvier(*words)


def test_get_wants_names() -> None:
    with pytest.raises(Refusal, match="expected data sets or --all"):
        ranvier("get")


def test_get_refuses_a_folder_of_copies_that_is_none(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setenv("RANVIER_DATA", str(empty / "misspelt"))
    with pytest.raises(Refusal, match="RANVIER_DATA: expected a folder that exists"):
        ranvier("get", "mnist")


def test_get_downloads_what_is_missing(empty: Path, fetched: list[str], with_files: Callable[..., None]) -> None:
    there = put(empty / "copies/a.bin")
    with_files(File("a.bin", there), File("b.bin", ABSENT, urls=("https://example.org/b.bin",)))
    done = ranvier("get", "mnist", "--quiet")
    assert done.exit_code == 0 and fetched == ["b.bin"]
    assert f"mnist: {empty}/copies/a.bin\nmnist: {empty}/cache/data/b.bin\n" in done.stdout


def test_a_rebuild_serves_for_the_official_file(
    empty: Path, fetched: list[str], with_files: Callable[..., None]
) -> None:
    rebuilt = put(empty / "copies/a.bin")
    with_files(File("a.bin", ABSENT, urls=("https://example.org/a.bin",)), File("a.bin", rebuilt))
    assert ranvier("get", "mnist").exit_code == 0 and fetched == []


def test_a_failed_download_keeps_no_other_from_its_turn(fetched: list[str], with_files: Callable[..., None]) -> None:
    with_files(*(File(n, ABSENT, urls=(f"https://example.org/{n}",)) for n in ("gone.bin", "b.bin")))
    done = ranvier("get", "mnist", "spoken-digits")
    assert done.exit_code == 2 and fetched == ["gone.bin", "b.bin"]
    assert "HTTP 404" in done.stderr and "Jakobovski/free-spoken-digit-dataset" in done.stderr


def test_what_can_not_be_downloaded_is_said(fetched: list[str], with_files: Callable[..., None]) -> None:
    done = ranvier("get", "spoken-digits")
    assert done.exit_code == 2 and fetched == []
    assert "Set RANVIER_DATA to a folder that holds fsdd/" in " ".join(done.stderr.split())
    # where there is another way to the set, one that is missing is no failure
    with_files(*SpokenDigits.files, File("b.bin", ABSENT, urls=("https://example.org/b.bin",)), kind=SpokenDigits)
    assert ranvier("get", "spoken-digits").exit_code == 0


def test_a_damaged_copy_is_said_and_not_downloaded_beside(
    empty: Path, fetched: list[str], with_files: Callable[..., None]
) -> None:
    put(empty / "copies/a.bin")
    with_files(File("a.bin", ABSENT, urls=("https://example.org/a.bin",)))
    done = ranvier("get", "mnist")
    assert done.exit_code == 2 and fetched == [] and "expected a file with sha256 0000" in done.stderr


def test_all_fetches_what_can_be_fetched(fetched: list[str]) -> None:
    done = ranvier("get", "--all")
    assert done.exit_code == 0, done.stderr
    assert {"cifar10/cifar-10-binary.tar.gz", "mnist/train-images-idx3-ubyte.gz"} <= set(fetched)
    assert "spoken-digits" in done.stderr
