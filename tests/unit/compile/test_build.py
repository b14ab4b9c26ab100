import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import ranvier
from ranvier.compile import build

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the same whatever kernels are")


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """A cache of this test's own; the folder of its kernels."""
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    build._made.cache_clear()
    build._say_once.cache_clear()
    yield tmp_path / "cache" / "kernels"
    build._made.cache_clear()
    build._say_once.cache_clear()


def adding(number):
    """A kernel that writes args[0] + number into args[1]."""
    return f"""
define void @kernel(ptr %args, i64 %low, i64 %high) {{
  %a = load i64, ptr %args
  %sum = add i64 %a, {number}
  %place = getelementptr i64, ptr %args, i64 1
  store i64 %sum, ptr %place
  ret void
}}"""


def called(kernel, value):
    args = (ctypes.c_int64 * 2)(value, 0)
    kernel(ctypes.addressof(args), 0, 0)
    return args[1]


def test_a_kernel_is_built_once_and_then_read(kept):
    assert called(build.build_llvm(adding(5)), 2) == 7
    (file,) = kept.iterdir()
    before = file.stat()
    assert called(build.build_llvm(adding(5)), 3) == 8
    assert [f.stat().st_mtime_ns for f in kept.iterdir()] == [before.st_mtime_ns]
    assert called(build.build_llvm(adding(6)), 2) == 8 and len(list(kept.iterdir())) == 2


def test_reading_a_kernel_takes_a_fraction_of_building_it():
    neuron = ranvier.AdaptiveLIF()
    from ranvier.compile.kernel import Variant
    from ranvier.compile.llvm import source

    text = source(neuron._program(("tau",)), Variant("float32", 8, frozenset(), (0.0, 0.0)), True)
    start = time.process_time()
    build.build_llvm(text)
    built = time.process_time() - start
    start = time.process_time()
    build.build_llvm(text)
    assert time.process_time() - start < built / 5


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:99] + b"?" + b[100:], lambda b: b + b"?"]
)
def test_a_damaged_kernel_is_built_again(damage, kept):
    build.build_llvm(adding(5))
    (file,) = kept.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage(good))
    assert called(build.build_llvm(adding(5)), 2) == 7
    assert file.read_bytes() == good


def test_a_damaged_triton_text_is_written_again(kept):
    text = "kernel = 7\n"
    assert build.build_triton(text) == 7
    (file,) = kept.iterdir()
    file.write_text("kernel = 8\n")
    assert build.build_triton(text) == 7 and file.read_text() == text


def test_processes_that_build_the_same_kernel_at_once_all_get_it(kept):
    build.build_llvm(adding(0))  # LLVM is loaded before the fork
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(6), context.Queue()

    def work():
        start.wait()
        results.put([called(build.build_llvm(adding(number)), 1) for number in range(1, 8)])

    processes = [context.Process(target=work) for _ in range(6)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [list(range(2, 9))] * 6
    for process in processes:
        process.join(timeout=60)
    assert [p.exitcode for p in processes] == [0] * 6
    assert len(list(kept.iterdir())) == 8, "one file a kernel, and nothing half-written"


def test_threads_that_build_the_same_kernel_at_once_all_get_it(kept):
    start = threading.Barrier(6)

    def work(_):
        start.wait()
        return [called(build.build_llvm(adding(number)), 1) for number in range(1, 8)]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [list(range(2, 9))] * 6
    assert len(list(kept.iterdir())) == 7


def test_kernels_can_be_freed():
    """Each has a target machine of its own, which its engine frees with itself."""
    for number in range(20):
        assert called(build.build_llvm(adding(number)), 1) == number + 1


def test_other_processors_have_kernels_of_their_own(kept, monkeypatch):
    build.build_llvm(adding(5))
    monkeypatch.setattr(build, "_features", lambda: "+sse2")
    assert called(build.build_llvm(adding(5)), 2) == 7
    assert len(list(kept.iterdir())) == 2


def test_another_process_finds_what_this_one_built(kept):
    """The text of a kernel is the same whatever the order in which sets and dicts come."""
    program = "import torch, ranvier; ranvier.AdaptiveLIF(tau=torch.nn.Parameter(torch.ones(3) * 9))(torch.ones(9, 2, 3)).sum().backward()"
    seen = []
    for seed in ("1", "2"):
        root = str(Path(ranvier.__file__).parents[1])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root}
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)
        seen.append({f.name: f.stat().st_mtime_ns for f in kept.iterdir()})
    assert seen[0] == seen[1] and len(seen[0]) == 2


def working():
    """A neuron of a new kind, that works."""

    class Fresh(ranvier.LIF):
        pass

    return Fresh()(torch.full((4, 1, 1), 1.5)).flatten().tolist() == [0.0, 1.0, 0.0, 1.0]


def test_a_missing_folder_is_made(kept):
    assert not kept.exists()
    assert working() and list(kept.iterdir())


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}", "~nobody-of-that-name/cache"])
def test_a_folder_that_cannot_be_made_is_said_once_and_kernels_work(place, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RANVIER_CACHE", place.format(file=tmp_path / "file"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert working() and called(build.build_llvm(adding(5)), 2) == 7
        assert build.build_triton("kernel = 7\n") == 7
    assert len(said) == 1
    assert all(word in str(said[0].message) for word in (os.environ["RANVIER_CACHE"], "anew", "Set RANVIER_CACHE"))


def test_a_folder_that_cannot_be_written_is_said_once_and_kernels_work(kept, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [called(build.build_llvm(adding(n)), 2) for n in range(5)] == [2, 3, 4, 5, 6]
    assert len(said) == 1 and "No space left on device" in str(said[0].message)
    assert list(kept.iterdir()) == [], "nothing half-written stays"


def test_a_text_for_triton_goes_elsewhere_when_the_folder_cannot_be_written(kept, monkeypatch):
    replace = os.replace

    def only_elsewhere(source, target):
        if Path(target).parent == kept:
            raise OSError(30, "Read-only file system")
        replace(source, target)

    monkeypatch.setattr(os, "replace", only_elsewhere)
    with pytest.warns(UserWarning, match="Read-only file system"):
        assert build.build_triton("kernel = 9\n") == 9


def test_a_kernel_that_does_not_parse_is_an_error_and_leaves_nothing(kept):
    with pytest.raises(RuntimeError):
        build.build_llvm("define void @kernel(")
    assert called(build.build_llvm(adding(5)), 2) == 7 and len(list(kept.iterdir())) == 1
