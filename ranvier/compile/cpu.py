"""Kernels on the CPU: blocks of neurons shared out among threads of our own."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count

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
        _share(kernel, table.ctypes.data, -(-neurons // BLOCK), steps * neurons)

    return launch


def _share(kernel: Kernel, table: int, blocks: int, work: int) -> None:
    threads = min(torch.get_num_threads(), blocks)
    if threads == 1 or work < SMALL:
        kernel(table, 0, blocks)
        return
    # four portions a thread: one that is held up leaves its share to the others
    portion = -(-blocks // (4 * threads))
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


# a forked process has none of its parent's threads
os.register_at_fork(after_in_child=_threads.cache_clear)
