"""Numba kernels get their arguments out of a table, on any number of threads."""

import os

import numpy as np
import pytest
import torch

from ranvier.ops.native import Kernel, cube, four, integer, matrix, real, vector


@Kernel
def _scaled(table, low, high):
    x, y, rows = matrix(table, 0, np.float32), matrix(table, 1, np.float32), integer(table, 3)
    factor = np.float32(real(table, 2))
    for i in range(low * rows, min(high * rows, x.shape[0])):
        for j in range(x.shape[1]):
            y[i, j] = factor * x[i, j]


@Kernel
def _counted(table, low, high):
    a, b, c = vector(table, 0, np.int64), cube(table, 1, np.float64), four(table, 2, np.int8)
    for i in range(low, high):
        a[i] = b.shape[0] * 100 + b.shape[2] * 10 + c.shape[3]


@pytest.mark.parametrize("threads", [1, 2])
def test_arguments_arrive_and_every_block_is_done_once(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        x = torch.randn(1003, 7)
        y = torch.full_like(x, torch.nan)
        _scaled(-(-len(x) // 16), 1 << 20, x, y, 0.5, 16)
        assert torch.equal(y, 0.5 * x)
    finally:
        torch.set_num_threads(before)


def test_every_number_of_axes():
    a = torch.zeros(3, dtype=torch.int64)
    _counted(3, 0, a, torch.zeros(2, 3, 4, dtype=torch.float64), torch.zeros(1, 1, 1, 5, dtype=torch.int8))
    assert a.tolist() == [245, 245, 245]


def test_a_forked_process_runs_kernels_too():
    x, y = torch.ones(64, 8), torch.zeros(64, 8)
    _scaled(4, 1 << 20, x, y, 2.0, 16)
    child = os.fork()
    if child == 0:
        y.zero_()
        _scaled(4, 1 << 20, x, y, 3.0, 16)
        os._exit(0 if bool((y == 3).all()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
