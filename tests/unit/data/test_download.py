import io
import os
import stat
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import md5, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ranvier.core.checks import Refusal
from ranvier.data import download as module
from ranvier.data.download import download, unpack
from ranvier.data.origin import File

CONTENT = bytes(range(256)) * 4000
HALF = len(CONTENT) // 2


@dataclass
class Server:
    """What a test makes of it: which paths there are, how often each breaks off, whether it resumes."""

    port: int = 0
    contents: dict[str, bytes] = field(default_factory=lambda: {"/a.bin": CONTENT})
    cuts: list[int] = field(default_factory=list)
    """after how many bytes the next answers end"""
    ranges: bool = True
    length: bool = True
    redirect: str = ""
    wait: threading.Event | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def file(self, *names: str, **changes: object) -> File:
        urls = tuple(f"http://127.0.0.1:{self.port}/{name}" for name in names or ("a.bin",))
        file = File("set/a.bin", sha256(CONTENT).hexdigest(), urls=urls, bytes=len(CONTENT))
        return replace(file, **changes)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            if state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect)
                self.end_headers()
                return
            content = state.contents.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if state.length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if state.wait and not start:
                self.wfile.write(content[:5])
            if state.wait:
                state.wait.wait(5)
                return
            self.wfile.write(content[start:][: state.cuts.pop(0) if state.cuts else None])

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # the other side hangs up on what is too long
            pass

    http = Quiet(("127.0.0.1", 0), Handler)
    state.port = http.server_port
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return tmp_path / "cache"


def part(file: File) -> Path:
    return file.place.with_name("a.bin.part")


def leave(file: File, content: bytes) -> None:
    file.place.parent.mkdir(parents=True, exist_ok=True)
    part(file).write_bytes(content)


def test_a_file_arrives_whole_and_is_found_from_then_on(server: Server, cache: Path) -> None:
    file = server.file()
    assert download(file) == cache / "data/set/a.bin" == file.find()
    assert file.place.read_bytes() == CONTENT and [p.name for p in file.place.parent.iterdir()] == ["a.bin"]
    download(file)
    assert server.asked == [("/a.bin", None)]


def test_an_md5_serves_as_checksum_and_the_size_need_not_be_known(server: Server) -> None:
    assert download(server.file(checksum=md5(CONTENT).hexdigest(), bytes=0)).read_bytes() == CONTENT


def test_a_damaged_download_is_replaced(server: Server) -> None:
    file = server.file()
    file.place.parent.mkdir(parents=True)
    file.place.write_bytes(b"x" + CONTENT[1:])
    assert download(file).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), 0])
def test_after_a_cut_only_the_rest_is_asked_for(server: Server, size: int) -> None:
    server.cuts = [HALF]
    assert download(server.file(bytes=size), progress=False).read_bytes() == CONTENT
    assert server.asked == [("/a.bin", None), ("/a.bin", f"bytes={HALF}-")]


def test_a_connection_that_keeps_breaking_leaves_what_came_for_next_time(server: Server) -> None:
    server.cuts = [100, 200, 300]
    file = server.file()
    with pytest.raises(Refusal, match=r"a\.bin: the connection ended after 600 of 1024000 bytes.*Try again later"):
        download(file)
    assert part(file).read_bytes() == CONTENT[:600] and not file.place.exists()
    assert download(file).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.bin", "bytes=600-")


def test_one_that_brings_nothing_is_not_asked_again(server: Server) -> None:
    server.cuts = [0]
    with pytest.raises(Refusal, match="ended after 0 of"):
        download(server.file())
    assert len(server.asked) == 1


def test_a_server_that_can_not_resume_sends_all_again(server: Server) -> None:
    server.ranges, server.cuts = False, [HALF]
    assert download(server.file()).read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("left", "asked"), [(CONTENT + b"x", [None]), (CONTENT, []), (CONTENT[:-1], ["bytes=1023999-"])]
)
def test_what_was_left_may_be_too_long_or_all_of_it(server: Server, left: bytes, asked: list[str | None]) -> None:
    file = server.file()
    leave(file, left)
    assert download(file).read_bytes() == CONTENT and [r for _, r in server.asked] == asked


@pytest.mark.parametrize("left", [CONTENT + b"x", CONTENT])
def test_the_server_says_so_where_the_size_is_not_known(server: Server, left: bytes) -> None:
    file = server.file(bytes=0)
    leave(file, left)
    assert download(file).read_bytes() == CONTENT
    assert server.asked[0] == ("/a.bin", f"bytes={len(left)}-")


def test_a_part_of_another_file_is_started_anew(server: Server) -> None:
    file = server.file()
    leave(file, b"another file")
    assert download(file).read_bytes() == CONTENT
    assert [r for _, r in server.asked] == ["bytes=12-", None]


def test_other_contents_are_refused_by_url_and_removed(server: Server) -> None:
    server.contents["/a.bin"] = b"x" + CONTENT[1:]
    file = server.file()
    with pytest.raises(Refusal, match=rf":{server.port}/a\.bin: expected a file with sha256 {file.checksum}; got "):
        download(file)
    assert not list(file.place.parent.iterdir())


@pytest.mark.parametrize(("length", "why"), [(True, "it has 7 bytes there, 1024000 expected"), (False, "after 7 of")])
def test_a_login_page_is_not_taken_for_the_file(server: Server, length: bool, why: str) -> None:
    server.contents["/a.bin"], server.length = b"<html/>", length
    file = server.file()
    with pytest.raises(Refusal, match=why):
        download(file)
    assert not file.place.exists()


def test_an_answer_without_end_is_cut_off(server: Server) -> None:
    server.contents["/a.bin"], server.length = CONTENT * 20, False
    file = server.file()
    with pytest.raises(Refusal, match="more than the 1024000 bytes expected"):
        download(file)
    assert len(server.asked) == 1 and not part(file).exists()


def test_a_server_that_falls_silent_is_left(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    server.wait = threading.Event()
    file = server.file()
    with pytest.raises(Refusal, match=r"a\.bin: the connection broke: timed out"):
        download(file)
    server.wait.set()
    assert part(file).read_bytes() == CONTENT[:5]


def test_the_next_url_serves_where_the_first_does_not(server: Server) -> None:
    server.contents["/wrong.bin"] = b"x" + CONTENT[1:]
    assert download(server.file("gone.bin", "wrong.bin", "a.bin")).read_bytes() == CONTENT
    with pytest.raises(Refusal, match=r"gone\.bin: HTTP 404 Not Found; .*lost\.bin: HTTP 404"):
        download(server.file("gone.bin", "lost.bin", path="set/b.bin"))


def test_an_address_where_nobody_answers(server: Server) -> None:
    with pytest.raises(Refusal, match=r"http://127\.0\.0\.1:1/: .*refused"):
        download(server.file(urls=("http://127.0.0.1:1/",)))


@pytest.mark.parametrize("way", ["url", "redirect"])
def test_no_file_of_this_machine_is_read_by_url(server: Server, way: str, tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(CONTENT)
    address = (tmp_path / "b.bin").as_uri()
    if way == "redirect":
        server.redirect = address
    with pytest.raises(Refusal, match="file"):
        download(server.file() if way == "redirect" else server.file(urls=(address,)))


def test_a_file_without_urls_says_where_to_get_it(server: Server) -> None:
    with pytest.raises(Refusal, match=r"Ask the author\. Set RANVIER_DATA to a folder that holds set/a\.bin"):
        download(server.file(urls=(), note="Ask the author."))


def test_a_full_disk_is_said_and_the_part_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    file = server.file()
    leave(file, CONTENT[:10])
    usage = module.shutil.disk_usage("/")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=99))
    with pytest.raises(Refusal, match=r"part: expected room to write it; got 1 MB are missing.*RANVIER_CACHE"):
        download(file)
    assert part(file).read_bytes() == CONTENT[:10]


def test_a_cache_that_can_not_be_written(server: Server, cache: Path) -> None:
    cache.write_text("a file in the way")
    with pytest.raises(Refusal, match=r"expected room to write it.*RANVIER_CACHE"):
        download(server.file())


def test_nothing_of_the_network_is_imported_before_it_is_needed() -> None:
    assert "rich.progress" not in vars(module) and "ranvier.data.download" in sys.modules


def zipped(path: Path, *members: str, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in members:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            file.writestr(entry, b"content")
    return path


def tarred(path: Path, *members: tuple[str, bytes, str]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.size = kind, target, 7 if kind == tarfile.REGTYPE else 0
            file.addfile(entry, io.BytesIO(b"content") if entry.size else None)
    return path


GOOD = ("x/good.txt", tarfile.REGTYPE, "")


@pytest.mark.parametrize(
    "make", [lambda p: zipped(p, "x/", "x/good.txt"), lambda p: tarred(p, ("x", tarfile.DIRTYPE, ""), GOOD)]
)
def test_an_archive_is_unpacked(make: Callable[[Path], Path], tmp_path: Path) -> None:
    into = unpack(make(tmp_path / "archive"), tmp_path / "new/into")
    assert (into / "x/good.txt").read_bytes() == b"content"
    assert [p.name for p in into.parent.iterdir()] == ["into"]
    with pytest.raises(Refusal, match="new or empty"):
        unpack(tmp_path / "archive", into)


ESCAPES = {
    "zip up": lambda p: zipped(p, "good.txt", "../evil.txt"),
    "zip up inside": lambda p: zipped(p, "good.txt", "x/../../evil.txt"),
    "zip absolute": lambda p: zipped(p, "good.txt", "/tmp/evil.txt"),
    "zip drive": lambda p: zipped(p, "good.txt", "C:\\evil.txt"),
    "zip backslash": lambda p: zipped(p, "good.txt", "x\\..\\..\\evil.txt"),
    "zip link": lambda p: zipped(p, "evil.txt", mode=stat.S_IFLNK | 0o777),
    "tar up": lambda p: tarred(p, GOOD, ("../evil.txt", tarfile.REGTYPE, "")),
    "tar absolute": lambda p: tarred(p, GOOD, ("/tmp/evil.txt", tarfile.REGTYPE, "")),
    "tar symlink": lambda p: tarred(p, GOOD, ("evil.txt", tarfile.SYMTYPE, "/etc/passwd")),
    "tar hard link": lambda p: tarred(p, GOOD, ("evil.txt", tarfile.LNKTYPE, "../../secret")),
    "tar device": lambda p: tarred(p, GOOD, ("evil.txt", tarfile.CHRTYPE, "")),
}


@pytest.mark.parametrize("way", ESCAPES)
def test_an_archive_that_reaches_out_is_refused_before_anything_is_written(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = ESCAPES[way](tmp_path / "archive")
    monkeypatch.setattr(tarfile.TarFile, "extractall", lambda *_, **__: pytest.fail("written"))
    monkeypatch.setattr(zipfile.ZipFile, "extractall", lambda *_, **__: pytest.fail("written"))
    with pytest.raises(Refusal, match=r"evil\.txt.*Nothing was unpacked"):
        unpack(archive, tmp_path / "into")
    assert [p.name for p in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"\x1f\x8b damaged"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(Refusal, match="expected a whole zip or tar archive"):
        unpack(tmp_path / "archive", tmp_path / "into")


def test_a_truncated_archive_leaves_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "whole", "a.txt", "b.txt")
    content = bytearray(archive.read_bytes())
    content[content.index(b"content")] ^= 1
    archive.write_bytes(content)
    with pytest.raises(Refusal, match="expected a whole"):
        unpack(archive, tmp_path / "into")
    assert [p.name for p in tmp_path.iterdir()] == ["whole"]
