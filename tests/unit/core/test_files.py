import json
import os
import pickle

import pytest
import torch

import ranvier
from ranvier.core import files
from ranvier.core.checks import Refusal

TENSORS = {
    "a.v": torch.tensor([[0.1, -2.0]]),
    "seed": torch.tensor([2**61]),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "double": torch.rand(2, dtype=torch.float64),
    "none": torch.zeros(2, 0, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    ranvier.save(TENSORS, tmp_path / "a.safetensors")
    assert same(ranvier.load(tmp_path / "a.safetensors"), TENSORS)


def test_tensors_that_share_memory_and_learnable_ones_are_saved(tmp_path):
    weight = torch.nn.Parameter(torch.rand(2, 2))
    ranvier.save({"a": weight, "b": weight, "c": weight[0]}, tmp_path / "a")
    assert same(ranvier.load(tmp_path / "a"), {"a": weight.data, "b": weight.data, "c": weight.data[0]})


@pytest.mark.parametrize("beginning", [b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"])
def test_a_header_whose_length_looks_like_a_pickle_is_readable(tmp_path, beginning):
    """A file begins with the length of its header, which grows with the names."""
    for n in range(int.from_bytes(beginning, "little") - 100, int.from_bytes(beginning, "little")):
        ranvier.save({"a" * n: torch.ones(1)}, tmp_path / "a")
        if (tmp_path / "a").read_bytes()[:2] == beginning:
            assert list(ranvier.load(tmp_path / "a")) == ["a" * n] and files.metadata(tmp_path / "a") == {}
            return
    pytest.fail("no header had that length: widen the range")


def test_metadata_travels_beside_the_tensors(tmp_path):
    ranvier.save(TENSORS, tmp_path / "a", metadata={"seed": "3"})
    assert files.metadata(tmp_path / "a") == {"seed": "3"}
    ranvier.save(TENSORS, tmp_path / "a")
    assert files.metadata(tmp_path / "a") == {}


class Trap:
    def __reduce__(self):
        return os.system, ("touch unpickled",)


@pytest.mark.parametrize("read", [ranvier.load, files.metadata])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_refused_with_the_reason_and_never_opened(tmp_path, monkeypatch, read, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(pickle.dumps(Trap(), protocol))
    with pytest.raises(
        Refusal, match=r"expected safetensors; got a pickle .*whose loading can run any code.*weights_only"
    ):
        read("a")
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("read", [ranvier.load, files.metadata])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_save_writes_is_refused_with_the_reason(tmp_path, read, zipped):
    torch.save(TENSORS, tmp_path / "a", _use_new_zipfile_serialization=zipped)
    with pytest.raises(Refusal, match="expected safetensors; got a pickle"):
        read(tmp_path / "a")


@pytest.mark.parametrize("read", [ranvier.load, files.metadata])
@pytest.mark.parametrize("size", [0, 5, 8, 40, -1])
def test_a_truncated_file_is_refused(tmp_path, read, size):
    ranvier.save(TENSORS, tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:size])
    with pytest.raises(Refusal, match="expected a whole safetensors file; got one that cannot be read"):
        read(tmp_path / "a")


def test_a_file_that_is_not_there_is_not_called_broken(tmp_path):
    with pytest.raises(FileNotFoundError):
        ranvier.load(tmp_path / "a")


def crash(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "write",
    [
        lambda path: ranvier.save({"a": torch.ones(1)}, path),
        lambda path: files.write_text(path, "new"),
        lambda path: files.write_json(path, ["new"]),
    ],
)
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, write):
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "replace", crash)  # the last moment at which the new file is not there
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_json_is_written_whole_and_without_nan(tmp_path):
    files.write_json(tmp_path / "a", {"x": [1, 0.5]})
    assert json.loads((tmp_path / "a").read_text()) == {"x": [1, 0.5]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a", float("nan"))
    assert json.loads((tmp_path / "a").read_text()) == {"x": [1, 0.5]}
