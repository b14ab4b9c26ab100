import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ranvier.core.files import save
from ranvier.data.cache import cache_folder, cached


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Tensor]:
        self.calls += 1
        return {"x": torch.arange(6.0).reshape(2, 3), "n": torch.tensor([1, 2]), "nothing": torch.zeros(0, 3)}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "a.safetensors"


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def test_the_folder_is_the_named_one_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("RANVIER_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "ranvier"


def test_made_once_then_read(file: Path) -> None:
    make = Maker()
    first, second = cached("a", make), cached("a", make)
    assert make.calls == 1 and same(first, second) and same(first, Maker()())
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 1  # within the numbers, where safetensors sees nothing wrong
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def pickled(file: Path) -> None:
    torch.save({"x": torch.zeros(1)}, file)


def unsigned(file: Path) -> None:
    save(Maker()(), file)


def renamed(file: Path) -> None:
    """Whole, but with another tensor in it than was signed."""
    from ranvier.core.files import load, metadata

    text = metadata(file)
    save({f"{k}2": t for k, t in load(file).items()}, file, text)


@pytest.mark.parametrize("damage", [truncated, flipped, emptied, pickled, unsigned, renamed])
def test_a_damaged_cache_is_rebuilt_and_said_once(file: Path, damage: object) -> None:
    make = Maker()
    cached("a", make)
    assert callable(damage)
    damage(file)
    with pytest.warns(UserWarning, match=r"a\.safetensors is damaged and made anew") as said:
        assert same(cached("a", make), Maker()())
    assert len(said) == 1 and make.calls == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(cached("a", make), Maker()())
    assert make.calls == 2


def test_an_interrupted_write_leaves_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ranvier.core.files.os.replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cached("a", Maker())
    assert list(file.parent.iterdir()) == []
    assert same(cached("a", Maker()), Maker()())


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "occupied").write_text("a file where the folder should be")
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "occupied"))
    with pytest.warns(UserWarning, match="Point RANVIER_CACHE to a folder"):
        assert same(cached("a", Maker()), Maker()())


def test_what_was_read_can_be_written_to_without_harm(file: Path) -> None:
    cached("a", Maker())
    cached("a", Maker())["x"].zero_()
    assert same(cached("a", Maker()), Maker()())
