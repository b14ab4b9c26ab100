"""Files from the network, resumed where they broke off and verified before they count; archives unpacked where they may be."""

import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib import request
from urllib.error import HTTPError, URLError

from ranvier.core.checks import Refusal
from ranvier.data.origin import File, verified

TIMEOUT = 30.0  # seconds without a byte
TRIES = 3  # of one URL, while each brings more of the file
_PIECE = 1 << 18
_CANNOT_WRITE = (
    "Make room or point RANVIER_CACHE to a folder that can be written; the download goes on where it stopped."
)

Tell = Callable[[int, int | None], None]


class _Failed(Exception):
    """This URL does not give the file."""


class _Broken(_Failed):
    """The connection broke while the file came: asking for the rest may help."""


def download(file: File, progress: bool = True) -> Path:
    """The file at `file.place`, fetched from the first of its URLs that gives the contents expected.

    What has arrived lies beside it as `.part` and is continued by the next try, now or later; it takes the file's place
    only once its checksum is right. A file already there and right is left alone.

    Raises: Refusal naming every URL and what it answered, or that the disk is full.
    """
    place = file.place
    if place.is_file() and _wrong(place, file) is None:
        return place
    if not file.urls:
        do = f"{file.note} Set RANVIER_DATA to a folder that holds {file.path}.".strip()
        raise Refusal(file.path, expected="an address to download it from", got="none", do=do)
    part = place.with_name(place.name + ".part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        raise _unwritable(place.parent, why) from None
    failures = []
    with _bar(place.name, progress) as tell:
        for url in file.urls:
            try:
                _complete(url, file, part, tell)
            except _Failed as why:
                failures.append(f"{url}: {why}")
            else:
                os.replace(part, place)
                return place
    raise Refusal(
        file.path,
        expected="a download",
        got="; ".join(failures),
        do=f"Try again later, or get it by other means and put it at {place}.",
    )


def unpack(archive: str | Path, into: str | Path) -> Path:
    """The folder `into`, made from a zip or tar archive: whole or not at all.

    Raises: Refusal before anything is written for a member that would lie outside the folder, for links and devices,
    which data has no need of, and for a folder that has something in it; Refusal for a damaged archive.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with zipfile.ZipFile(f"{folder}/a.zip", "w") as made:
    ...         made.writestr("x/y.txt", "z")
    ...     (unpack(f"{folder}/a.zip", f"{folder}/a") / "x/y.txt").read_text()
    'z'
    """
    archive, into = Path(archive), Path(into)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise Refusal(str(into), expected="a folder that is new or empty", got="one in use", do="Name another.")
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=f".{into.name}.") as staging:
        try:
            _extract(archive, Path(staging, "all"))
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError) as why:
            raise Refusal(
                str(archive), expected="a whole zip or tar archive", got=str(why), do="Get it again, or make room."
            ) from None
        if into.is_dir():
            into.rmdir()
        os.replace(Path(staging, "all"), into)
    return into


def _extract(archive: Path, into: Path) -> None:
    into.mkdir()
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                _require_inside(archive, member.name, member.isfile() or member.isdir())
            # before Python 3.11.4 there is no filter; names and kinds have been looked at above in any case
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(into)
    else:
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where made on a system without kinds
                _require_inside(archive, entry.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
            packed.extractall(into)


def _require_inside(archive: Path, name: str, plain: bool) -> None:
    paths = PurePosixPath(name), PureWindowsPath(name)
    if any(path.anchor or ".." in path.parts for path in paths) or not plain:
        raise Refusal(
            str(archive),
            expected="files and folders that stay inside the folder they are unpacked into",
            got=repr(name) if plain else f"{name!r}, a link or a device",
            do="Nothing was unpacked: don't trust this archive.",
        )


def _complete(url: str, file: File, part: Path, tell: Tell) -> None:
    """The whole file in `part`, with the right checksum."""
    for last in (*[False] * (TRIES - 1), True):
        had = _size(part)
        try:
            _receive(url, part, file.bytes, tell)
        except _Broken:
            if last or _size(part) <= had:
                raise
            continue
        wrong = _wrong(part, file)
        if wrong is None:
            return
        part.unlink()
        if last or not had:  # otherwise what was there before may be to blame, so once more from the start
            raise _Failed(wrong)


def _receive(url: str, part: Path, size: int, tell: Tell) -> None:
    """What is still missing in `part`; `size` is the whole file's, 0 where not known."""
    have = _size(part)
    if size and have > size:
        part.unlink()
        have = 0
    if size and have == size:
        return
    headers = {"User-Agent": "ranvier", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = _opener().open(request.Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as why:
        if why.code != 416 or not have:
            raise _Failed(f"HTTP {why.code} {why.reason}") from None
        if why.headers.get("Content-Range", "").endswith(f"/{have}"):
            return  # it was all there
        part.unlink()
        _receive(url, part, size, tell)
        return
    except URLError as why:
        raise _Failed(str(why.reason)) from None
    except (OSError, HTTPException, ValueError) as why:
        raise _Failed(str(why) or type(why).__name__) from None
    with response:
        start = have if response.status == 206 else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            _receive(url, part, size, tell)
            return
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else size or None
        if size and total != size:
            raise _Failed(f"it has {total} bytes there, {size} expected")
        _write(response, part, start, total, tell)


def _write(response: HTTPResponse, part: Path, done: int, total: int | None, tell: Tell) -> None:
    try:
        if total and shutil.disk_usage(part.parent).free < total - done:
            raise OSError(f"{(total - done) / 1e6:.0f} MB are missing, and there is less room than that")
        with part.open("ab" if done else "wb") as out:
            for piece in _pieces(response):
                out.write(piece)
                done += len(piece)
                tell(done, total)
                if total and done > total:
                    break
    except OSError as why:
        raise _unwritable(part, why) from None
    if total and done > total:
        part.unlink()
        raise _Failed(f"more than the {total} bytes expected")
    if total and done < total:
        raise _Broken(f"the connection ended after {done} of {total} bytes")


def _pieces(response: HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            piece = response.read1(_PIECE)  # what has come, so that a broken connection costs nothing of it
        except (OSError, HTTPException) as why:
            raise _Broken(f"the connection broke: {why or type(why).__name__}") from None
        if not piece:
            return
        yield piece


def _opener() -> request.OpenerDirector:
    """For http and https alone: neither a URL nor what it redirects to may name a file of this machine."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _wrong(path: Path, file: File) -> str | None:
    try:
        verified(path, file.checksum, do="")
    except Refusal as why:
        return str(why).removeprefix(f"{path}: ").rstrip(". ")
    return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _unwritable(path: Path, why: OSError) -> Refusal:
    return Refusal(str(path), expected="room to write it", got=why.strerror or str(why), do=_CANNOT_WRITE)


@contextmanager
def _bar(name: str, shown: bool) -> Iterator[Tell]:
    if not shown:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
