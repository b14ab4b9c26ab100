"""Kernels on the CPU: blocks of neurons shared out among torch's own threads."""

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.buffers import empty
from ranvier.compile.build import Kernel, build_llvm
from ranvier.compile.kernel import Variant
from ranvier.compile.llvm import BLOCK, source
from ranvier.compile.program import Program

SMALL = 1 << 16
"""Neuron steps below which waking a second thread costs more than it saves."""

Launcher = Callable[[Sequence[Tensor | int], int, int], None]

__all__ = ["Launcher", "empty", "launcher"]


@cache
def launcher(program: Program, variant: Variant, backward: bool) -> Launcher:
    """What runs a kernel over all neurons, given its arguments in their order, the steps and the number of neurons."""
    kernel = build_llvm(source(program, variant, backward))

    def launch(arguments: Sequence[Tensor | int], steps: int, neurons: int) -> None:
        table = np.array([a if isinstance(a, int) else a.data_ptr() for a in arguments], dtype=np.int64)
        share(kernel, table.ctypes.data, -(-neurons // BLOCK), steps * neurons)

    return launch


def share(kernel: Kernel, table: int, blocks: int, work: int) -> None:
    """Call kernel(table, low, high) until all blocks are done, on as many threads as torch uses where `work` is worth it."""
    threads = min(torch.get_num_threads(), blocks)
    if threads == 1 or work < SMALL:
        kernel(table, 0, blocks)
        return
    portion = -(-blocks // (4 * threads))  # four a thread: one that is held up leaves its share to the others
    found = team()
    if found is None:
        _share_in_python(kernel, table, blocks, portion, threads)
        return
    take_portions, parallel = found
    job = np.array([ctypes.cast(kernel, ctypes.c_void_p).value, table, blocks, portion, 0], dtype=np.int64)
    parallel(take_portions, job.ctypes.data, threads, 0)


_TAKE_PORTIONS = """
define void @kernel(ptr %job) {
entry:
  %kernel = load ptr, ptr %job
  %table.at = getelementptr i64, ptr %job, i64 1
  %table = load ptr, ptr %table.at
  %blocks.at = getelementptr i64, ptr %job, i64 2
  %blocks = load i64, ptr %blocks.at
  %portion.at = getelementptr i64, ptr %job, i64 3
  %portion = load i64, ptr %portion.at
  %taken = getelementptr i64, ptr %job, i64 4
  br label %take
take:
  %low = atomicrmw add ptr %taken, i64 %portion monotonic
  %some = icmp slt i64 %low, %blocks
  br i1 %some, label %work, label %done
work:
  %end = add i64 %low, %portion
  %whole = icmp slt i64 %end, %blocks
  %high = select i1 %whole, i64 %end, i64 %blocks
  call void %kernel(ptr %table, i64 %low, i64 %high)
  br label %take
done:
  ret void
}
"""
"""What each thread of a team does with a job: kernel, table, blocks, portion, and the number of blocks taken so far."""


def team() -> tuple[Any, Any] | None:
    """What takes portions of a job, and what calls torch's OpenMP threads, which wait awake between one kernel and the next.

    None where there are none to call, as in a forked process.
    """
    return None if _forked else _team()


@cache
def _team() -> tuple[Any, Any] | None:
    try:
        loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "omp" in line}
    except OSError:
        return None
    for path in sorted(p for p in loaded if Path(p).name.startswith(("libgomp", "libiomp", "libomp"))):
        with suppress(OSError, AttributeError):
            parallel = ctypes.CDLL(path).GOMP_parallel
            parallel.argtypes, parallel.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
            return build_llvm(_TAKE_PORTIONS), parallel
    return None


def _share_in_python(kernel: Kernel, table: int, blocks: int, portion: int, threads: int) -> None:
    numbers = count()

    def take_portions() -> None:
        while (low := next(numbers) * portion) < blocks:
            kernel(table, low, min(low + portion, blocks))

    others = [_threads(threads - 1).submit(take_portions) for _ in range(threads - 1)]
    take_portions()
    for other in others:
        other.result()


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number, thread_name_prefix="ranvier")


_forked = False


def _after_fork() -> None:
    # a forked process has none of its parent's threads, and OpenMP does not know it
    global _forked
    _forked = True
    _threads.cache_clear()


os.register_at_fork(after_in_child=_after_fork)
