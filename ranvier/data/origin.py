"""Where data is found on this machine: the user's folder of copies, then installed packages; verified before use."""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path

from ranvier.core.checks import MissingPackage, Refusal


def sha256(path: str | Path) -> str:
    """The sha256 of a file, read in pieces.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as empty:
    ...     sha256(empty.name)[:8]
    'e3b0c442'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified(path: str | Path, checksum: str, do: str = "Copy it anew from where it comes from.") -> Path:
    """The path itself, once the file's sha256 is known to be `checksum`.

    Raises: Refusal for any other content; nothing but the hash has read it then.
    """
    found = sha256(path)
    if found != checksum:
        raise Refusal(str(path), expected=f"a file with sha256 {checksum}", got=found, do=do)
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
