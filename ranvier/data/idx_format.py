"""The idx format of MNIST and its kin: a big-endian header, then bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.lazy import Mapped, unit
from ranvier.data.samples import Samples


def read_idx(path: str | Path) -> np.ndarray:
    """The bytes of a gzipped idx file as an array of its own shape, uint8.

    Raises: Refusal for a file that is no gzip, no idx, not of bytes, or shorter or longer than its header says.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".gz") as file:
    ...     _ = Path(file.name).write_bytes(gzip.compress(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 5, 7])))
    ...     read_idx(file.name)
    array([[5, 7]], dtype=uint8)
    """
    try:
        with gzip.open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not magic[3]:
                raise _refusal(path, "an idx file of bytes (magic 00 00 08 and the number of axes)", magic.hex(" "))
            header = file.read(4 * magic[3])
            shape = tuple(int(n) for n in np.frombuffer(header[: len(header) // 4 * 4], dtype=">u4"))
            # one more than promised shows a file that is too long without reading all of it
            content = file.read(math.prod(shape) + 1) if len(shape) == magic[3] else b""
    except (OSError, EOFError, zlib.error) as why:
        raise _refusal(path, "a whole gzip file", str(why)) from None
    if len(shape) != magic[3] or len(content) != math.prod(shape):
        got = f"{'more' if len(content) > math.prod(shape) else len(content)} for shape {shape}"
        raise _refusal(path, "as many bytes as the header says", got)
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def image_samples(images: Path, labels: Path, classes: tuple[str, ...], first: int) -> Samples:
    """Static images [1, 1, H, W] from 0 to 1 with their labels; `first` is the group number of the first one."""
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise _refusal(labels, f"a label for each of the images of {images.name}", f"shapes {x.shape} and {y.shape}")
    return Samples(
        x=Mapped(x[:, None, None], unit), y=y.astype(np.int64), classes=classes, group=first + np.arange(len(y))
    )


def _refusal(path: str | Path, expected: str, got: str) -> Refusal:
    return Refusal(str(path), expected=expected, got=got or "nothing", do="Get it again.")
