import gzip
from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.idx_format import image_samples, read_idx

HEADER = bytes([0, 0, 8, 2]) + np.array([2, 3], dtype=">u4").tobytes()
WHOLE = HEADER + bytes(range(6))


def idx(path: Path, array: np.ndarray) -> Path:
    path.write_bytes(
        gzip.compress(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes())
    )
    return path


def test_an_array_comes_back(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    found = read_idx(idx(tmp_path / "a.gz", array))
    assert found.dtype == np.uint8 and np.array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic 00 00 08.*got nothing"),
        (b"PNG\0" + WHOLE[4:], "magic 00 00 08.*got 50 4e 47 00"),
        (bytes([0, 0, 13]) + WHOLE[3:], "an idx file of bytes.*00 00 0d 02"),
        (bytes([0, 0, 8, 0]), "the number of axes"),
        (HEADER[:7], "as many bytes as the header says"),
        (WHOLE[:-1], r"as many bytes as the header says; got 5 for shape \(2, 3\)"),
        (WHOLE + b"x", r"got more for shape \(2, 3\)"),
    ],
)
def test_other_contents_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(Refusal, match=rf"a\.gz: .*{message}"):
        read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize("damaged", [b"no gzip", gzip.compress(WHOLE)[:-12], b"\x1f\x8b\x08\0" + bytes(20)])
def test_what_is_no_whole_gzip_is_refused(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(damaged)
    with pytest.raises(Refusal, match=r"a whole gzip file|as many bytes"):
        read_idx(tmp_path / "a.gz")


def test_images_get_their_labels(tmp_path: Path) -> None:
    images = idx(tmp_path / "x.gz", np.array([[[0, 255]], [[51, 102]]], dtype=np.uint8))
    labels = idx(tmp_path / "y.gz", np.array([1, 0], dtype=np.uint8))
    samples = image_samples(images, labels, ("a", "b"), first=10)
    assert samples.x[1].tolist() == [[[[np.float32(0.2), np.float32(0.4)]]]]
    assert samples.y.tolist() == [1, 0] and samples.group.tolist() == [10, 11]
    with pytest.raises(Refusal, match=r"y\.gz: expected a label for each of the images of x\.gz"):
        image_samples(images, idx(tmp_path / "y.gz", np.array([1], dtype=np.uint8)), ("a", "b"), first=0)
