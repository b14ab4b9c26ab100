"""MNIST, Fashion-MNIST and CIFAR-10: what the contract doesn't show."""

import io
import os
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data import idx_format
from ranvier.data.lazy import Mapped
from ranvier.data.origin import digest
from ranvier.data.samples import Samples
from ranvier.data.sets import cifar10
from ranvier.data.sets.cifar10 import CIFAR10
from ranvier.data.sets.fashion_mnist import FashionMNIST
from ranvier.data.sets.mnist import MNIST

DATA = os.environ.get("RANVIER_DATA", "")


def needs(folder: str) -> pytest.MarkDecorator:
    found = DATA and (Path(DATA) / folder).is_dir()
    return pytest.mark.skipif(not found, reason=f"needs RANVIER_DATA with {folder} in it")


def stored(samples: Samples) -> np.ndarray:
    assert isinstance(samples.x, Mapped) and isinstance(samples.x.items, np.ndarray)
    return samples.x.items


@needs("mnist")
def test_mnist_is_the_official_one() -> None:
    train, test = MNIST().load("train"), MNIST().load("test")
    assert len(train) == 60_000 and len(test) == 10_000
    assert train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4] and test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = stored(train) / 255  # the moments that everybody normalises with
    assert pixels.mean() == pytest.approx(0.13066, abs=1e-5) and pixels.std() == pytest.approx(0.30811, abs=1e-5)
    x = train.x[0]
    assert x.dtype == np.float32 and x.min() == 0 and x.max() == 1 and x[0, 0, 5, 12] == np.float32(3 / 255)
    assert train.group[[0, -1]].tolist() == [0, 59_999] and test.group[[0, -1]].tolist() == [60_000, 69_999]


@needs("fashion_mnist")
def test_fashion_mnist_is_the_official_one() -> None:
    train, test = FashionMNIST().load("train"), FashionMNIST().load("test")
    assert np.bincount(train.y).tolist() == [6000] * 10 and np.bincount(test.y).tolist() == [1000] * 10
    assert train.y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5] and FashionMNIST.classes[9] == "Ankle boot"
    pixels = stored(train) / 255
    assert pixels.mean() == pytest.approx(0.28604, abs=1e-5) and pixels.std() == pytest.approx(0.35302, abs=1e-5)


@needs("cifar10")
def test_the_jpeg_splits_hold_every_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    test = CIFAR10().load("test-jpeg")
    assert np.bincount(test.y).tolist() == [1000] * 10 and test.group[[0, -1]].tolist() == [50_000, 59_999]
    means = (stored(test) / 255).mean(axis=(0, 1, 3, 4))  # those of the true images: .4942 .4851 .4504
    assert means == pytest.approx([0.4942, 0.4851, 0.4504], abs=2e-3)
    monkeypatch.setattr(cifar10, "_decoded", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(stored(CIFAR10().load("test-jpeg")), stored(test))


@needs("cifar10")
def test_without_pillow_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackage, match="pip install 'pillow"):
        CIFAR10().load("test-jpeg")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Laid out like the official archive, 3 records a file; the pixels of a record count from its label up."""
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        for k, name in enumerate(
            ["data_batch_1", "data_batch_4", "test_batch", *(f"data_batch_{i}" for i in (2, 3, 5))]
        ):
            label = 9 if name == "test_batch" else int(name[-1])
            record = bytes([label]) + (np.arange(3072) + label + k).astype(np.uint8).tobytes()
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = 3 * len(record)
            tar.addfile(entry, io.BytesIO(3 * record))
        tar.addfile(tarfile.TarInfo("cifar-10-batches-bin/readme.html"))
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(CIFAR10, "files", (replace(CIFAR10.files[0], checksum=digest(path)),))
    return path


def test_the_official_archive_is_read_in_its_order(archive: Path) -> None:
    train, test = CIFAR10().load("train"), CIFAR10().load("test")
    assert train.y.tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3 and test.y.tolist() == [9] * 3
    assert test.group.tolist() == [50_000, 50_001, 50_002]
    x = np.arange(3072) + 9 + 2
    assert np.array_equal(stored(test)[0], x.astype(np.uint8).reshape(1, 3, 32, 32))
    assert test.x[0].shape == (1, 3, 32, 32) and test.x[0][0, 0, 0, 1] == np.float32(12 / 255)


def test_an_archive_that_lacks_a_file_is_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cifar10._MEMBERS, "test", ["none.bin"])
    with pytest.raises(Refusal, match=r"expected cifar-10-batches-bin/none\.bin in it"):
        CIFAR10().load("test")


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_a_changed_file_is_refused_before_it_is_opened(
    kind: type[MNIST], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in kind.files:
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_bytes(b"another file")
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    monkeypatch.setattr(idx_format, "read_idx", lambda *_: pytest.fail("opened"))
    with pytest.raises(
        Refusal, match=rf"train-images-idx3-ubyte\.gz: expected a file with sha256 {kind.files[0].checksum}"
    ):
        kind().load("train")


@pytest.mark.parametrize("split", ["train", "train-jpeg"])
def test_a_changed_archive_is_refused_before_it_is_opened(
    split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar10").mkdir()
    for file in CIFAR10.files:
        (tmp_path / file.path).write_bytes(b"another file")
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path))
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(Refusal, match="expected a file with sha256"):
        CIFAR10().load(split)
