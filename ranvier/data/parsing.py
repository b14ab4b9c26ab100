"""Files of numbers and text, read without pickle; what is not well-formed is refused by the name of the file."""

import csv
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ranvier.core.checks import Refusal

_MALFORMED = (ValueError, KeyError, IndexError, TypeError, OSError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What a parser raises at a malformed file becomes a refusal that names the file.

    >>> with reading(Path("heights.csv")):
    ...     float("tall")
    Traceback (most recent call last):
    ranvier.core.checks.Refusal: heights.csv: expected a well-formed file; got ValueError: could not convert ...
    """
    try:
        yield
    except Refusal:
        raise
    except _MALFORMED as why:
        got = f"{type(why).__name__}: {why}"
        do = "Copy it anew from where it comes from."
        raise Refusal(path.name, expected="a well-formed file", got=got, do=do) from why


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file, each the caller's own; nothing is unpickled.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/two.npz", a=np.arange(3), b=np.ones(1))
    ...     read_npz(Path(folder) / "two.npz", "a")
    {'a': array([0, 1, 2])}
    """
    with reading(path), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in names}


def read_text(path: Path) -> str:
    """A file of UTF-8, with its line ends as they are."""
    with reading(path):
        return path.read_bytes().decode("utf-8")
