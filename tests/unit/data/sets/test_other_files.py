"""What the sets that are read without pickle do with files that are missing, changed or malformed."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.origin import File
from ranvier.data.sets.c_elegans import CElegans
from ranvier.data.sets.citeseer import Citeseer
from ranvier.data.sets.cora import Cora
from ranvier.data.sets.dataset import Dataset
from ranvier.data.sets.gset import GSet
from ranvier.data.sets.hippocampus import Hippocampus
from ranvier.data.sets.larval_drosophila import LarvalDrosophila
from ranvier.data.sets.motor_cortex import MotorCortex
from ranvier.data.sets.motor_imagery import MotorImagery
from ranvier.data.sets.tiny_shakespeare import TinyShakespeare
from ranvier.data.sets.wikitext2 import WikiText2

SETS = (
    MotorCortex,
    Hippocampus,
    MotorImagery,
    TinyShakespeare,
    WikiText2,
    Cora,
    Citeseer,
    GSet,
    LarvalDrosophila,
    CElegans,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of copies, and no downloads."""
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "copies"))
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


def put(folder: Path, file: File, content: bytes) -> File:
    """The file with other content; and its description if that were right."""
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return replace(file, checksum=sha256(content).hexdigest())


@pytest.mark.parametrize("kind", SETS)
def test_a_file_that_is_nowhere_is_refused_with_what_to_do(kind: type[Dataset[Any]], folder: Path) -> None:
    with pytest.raises(Refusal, match=r"expected the file on this machine; got none\..*RANVIER_DATA"):
        kind().load(kind.splits[0])


@pytest.mark.parametrize("kind", SETS)
def test_a_changed_file_is_refused_before_it_is_opened(
    kind: type[Dataset[Any]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    import scipy.io

    for file in kind.files:
        put(folder, file, b"another file")
    for module, name in ((np, "load"), (np, "loadtxt"), (gzip, "decompress"), (scipy.io, "loadmat")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("opened"))
    with pytest.raises(Refusal, match="expected a file with sha256"):
        kind().load(kind.splits[0])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe another file" * 20], ids=["empty", "bytes"])
@pytest.mark.parametrize("kind", [kind for kind in SETS if kind not in (TinyShakespeare, WikiText2)])
def test_a_malformed_file_is_refused_by_name(
    kind: type[Dataset[Any]], content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "files", tuple(put(folder, file, content) for file in kind.files))
    names = "|".join(Path(file.path).name for file in kind.files)
    with pytest.raises(Refusal, match=rf"^({names}): expected a well-formed file"):
        kind().load(kind.splits[0])


@pytest.mark.parametrize("kind", [TinyShakespeare, WikiText2])
def test_text_that_is_not_utf_8_is_refused_by_name(
    kind: type[Dataset[Any]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "files", tuple(put(folder, file, b"\xff") for file in kind.files))
    with pytest.raises(Refusal, match="expected a well-formed file; got UnicodeDecodeError"):
        kind().load(kind.splits[0])


def test_a_graph_with_another_number_of_edges_than_it_says_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip
    import io

    arrays = io.BytesIO()
    np.savez(arrays, G1=np.array([1, -1, 1], dtype=np.int8))
    contents = {
        "best_known.csv": b"instance,literature_best,cut_recomputed\nG1,2,2.0\n",
        "best_cut_assignments.npz": arrays.getvalue(),
    }

    def load(graph: str) -> int:
        named = {**contents, "G1.txt.gz": gzip.compress(graph.encode())}
        files = (put(folder, f, named[n]) if (n := Path(f.path).name) in named else f for f in type(GSet()).files)
        with monkeypatch.context() as patch:
            patch.setattr(GSet, "files", tuple(files))
            found = GSet().load("G1")
        assert found.assignment is not None
        return int(found.cut(found.assignment))

    assert load("3 2\n1 2 1\n2 3 1\n") == 2
    with pytest.raises(Refusal, match=r"G1\.txt\.gz: expected 3 lines .*got 2 lines of 3 numbers"):
        load("3 3\n1 2 1\n2 3 1\n")
    with pytest.raises(Refusal, match=r"got 2 lines of 2 numbers"):
        load("3 2\n1 2\n2 3\n")
    with pytest.raises(Refusal, match=r"G1\.txt\.gz: expected a well-formed file"):
        load("3 2\n1 2 heavy\n2 3 1\n")
    with pytest.raises(Refusal, match=r"Graph edges: expected nodes from 0 to 2; got 0 to 3"):
        load("3 2\n1 4 1\n2 3 1\n")
