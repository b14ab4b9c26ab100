"""Where data is found on this machine: the user's folder of copies, what was downloaded, installed packages; verified before use."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ranvier.core.checks import MissingData, MissingPackage, Refusal
from ranvier.data.cache import cache_folder


@dataclass(frozen=True)
class File:
    """One file that a data set is read from: where it may lie, and the checksum of its contents.

    >>> File("digits/digits.csv.gz", "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    ...      package="scikit-learn==1.9.1: sklearn/datasets/data/digits.csv.gz").find().name
    'digits.csv.gz'
    """

    path: str
    """inside the folder that RANVIER_DATA names, and inside the folder of downloads"""
    checksum: str
    """sha256, or md5 where that is all the source states"""
    urls: tuple[str, ...] = ()
    """where it can be downloaded, the first that answers"""
    package: str = ""
    """package==version: the path of the file in it"""
    bytes: int = 0
    """its size, where known"""
    note: str = ""
    """what a user can do to get it where there is neither a URL nor a package"""

    def find(self) -> Path:
        """The verified file on this machine.

        Raises: MissingData where it is nowhere, with what to do; Refusal for other contents; MissingPackage.
        """
        found = self.copy() or self.downloaded()
        if found is None and self.package:
            found = packaged(self.package, self.checksum)
        if found is None:
            do = f"Set RANVIER_DATA to a folder that holds {self.path}."
            do = f"Get it with: ranvier data get NAME. Or: {do}" if self.urls else f"{self.note} {do}".strip()
            raise MissingData(self.path, expected="the file on this machine", got="none", do=do)
        return found

    def copy(self) -> Path | None:
        """The verified file in the folder that RANVIER_DATA names, or None."""
        return local(self.path, self.checksum)

    def downloaded(self) -> Path | None:
        """The verified file among what was downloaded, or None."""
        file = self.place
        return verified(file, self.checksum, f"Delete it and get it again: {file}") if file.is_file() else None

    @property
    def place(self) -> Path:
        """Where a download of it is kept."""
        return cache_folder() / "data" / self.path


def any_of(files: Sequence[File], path: str) -> Path:
    """The verified file at `path`: the first of those stated for it that is there, with its own checksum.

    An official file and a lossless rebuild of it hold the same numbers under two checksums.

    Raises: what the first one raises, where none is there.
    """
    first: Refusal | None = None
    for file in files:
        if file.path == path:
            try:
                return file.find()
            except Refusal as why:
                first = first or why
    assert first, f"no file is stated for {path}"
    raise first


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """The hash of a file, read in pieces.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as empty:
    ...     digest(empty.name)[:8]
    'e3b0c442'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def verified(path: str | Path, checksum: str, do: str = "Copy it anew from where it comes from.") -> Path:
    """The path itself, once the hash of the file is known to be `checksum`, a sha256 or an md5.

    Raises: Refusal for any other content; nothing but the hash has read it then.
    """
    algorithm = "md5" if len(checksum) == 32 else "sha256"
    found = digest(path, algorithm)
    if found != checksum:
        raise Refusal(str(path), expected=f"a file with {algorithm} {checksum}", got=found, do=do)
    return Path(path)


def local(path: str, checksum: str) -> Path | None:
    """The verified file at `path` inside the folder that RANVIER_DATA names, or None where there is none.

    Raises: Refusal where RANVIER_DATA is no folder, or the file is not the one expected.
    """
    named = os.environ.get("RANVIER_DATA")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise Refusal("RANVIER_DATA", expected="a folder that exists", got=named, do="Correct it, or unset it.")
    file = folder / path
    return verified(file, checksum) if file.is_file() else None


def packaged(source: str, checksum: str) -> Path:
    """The verified file that `source`, "package==version: path", names; found without importing the package.

    Raises: MissingPackage where the package is absent; Refusal where the file is absent or another version's. Both
    name the line that installs it.
    """
    requirement, _, path = source.partition(": ")
    install = f"Install it with: pip install '{requirement}'"
    package, _, inside = path.partition("/")
    spec = find_spec(package)
    if spec is None:
        raise MissingPackage(package, requirement)
    folders = [Path(f) for f in spec.submodule_search_locations or ()]
    file = next((f / inside for f in folders if (f / inside).is_file()), None)
    if file is None:
        raise Refusal(path, expected=f"the file in {requirement}", got=f"{package} without it", do=install)
    return verified(file, checksum, do=install)
