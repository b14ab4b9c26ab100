"""Moments of channels and lines through them on the CPU: one pass over memory each, in the order in which it lies.

x is taken as [rows, channels, inner]; a block is some rows. Where a channel's values lie together (inner is large) each
run of them is added up as a vector; where they don't, all columns have a sum of their own. Sums are of the differences from
the channel's first value, so that a mean far from 0 costs no digits; they are float32 over a few hundred values and
float64 beyond.
"""

import numpy as np
import torch
from torch import Tensor

from ranvier.ops.native import Kernel, inlined, integer, matrix, vector

_TOGETHER = 16
"""Neighbouring values of a channel from which on they are summed as a vector."""
_ROWS = 16
"""Rows of a block that lines are added to."""
_PARTS = 16
"""Blocks that sums are made in."""


def takes(x: Tensor) -> bool:
    """Whether these kernels have x's type."""
    return x.dtype == torch.float32 and x.numel() > 0


def channel_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    rows, channels, inner = x.shape[0] * x.shape[1], x.shape[2], x[0, 0, 0].numel()
    parts, together = min(rows, _PARTS), inner >= _TOGETHER
    columns = channels if together else channels * inner
    first = x[0, 0].reshape(channels, inner)[:, 0]
    firsts = first.contiguous() if together else first[:, None].expand(channels, inner).reshape(-1)
    sums = torch.zeros(2 * parts, columns, dtype=torch.float64)
    if together:
        _sum_together(parts, x.numel(), x.view(-1), firsts, sums, parts, rows, inner)
    else:
        _sum_columns(parts, x.numel(), x.view(-1), firsts, sums, parts, rows, torch.zeros(2 * parts, columns))
    # numpy takes a few microseconds less for each of these than torch
    total: np.ndarray = sums.numpy().reshape(2, parts, channels, -1).sum((1, 3))
    away, square = total / (rows * inner)
    with np.errstate(all="ignore"):  # Inf is handed on without a word, as torch does
        mean, var = first.numpy() + away, np.maximum(square - away * away, 0.0)
        return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(var.astype(np.float32))


def add_lines_(g: Tensor, x: Tensor, offset: Tensor, slope: Tensor) -> Tensor:
    rows, channels, inner = g.shape[0] * g.shape[1], g.shape[2], g[0, 0, 0].numel()
    x = x[:1] if len(x) > 1 and x.stride(0) == 0 else x.contiguous()
    lines = torch.stack([offset.reshape(-1), slope.reshape(-1)]).float()
    together = inner >= _TOGETHER
    if not together:
        lines = lines[:, :, None].expand(2, channels, inner).reshape(2, -1).contiguous()
    add = _add_together if together else _add_columns
    add(-(-rows // _ROWS), g.numel(), g.view(-1), x.reshape(-1), lines, rows, inner)
    return g


@inlined
def _sums(x, at, number, first):
    s, q = np.float32(0.0), np.float32(0.0)
    for i in range(np.uint64(number)):
        d = x[np.uint64(at) + i] - first
        s += d
        q += d * d
    return s, q


@Kernel
def _sum_together(table, low, high):
    x, firsts = vector(table, 0, np.float32), vector(table, 1, np.float32)
    sums, channels = matrix(table, 2, np.float64), firsts.shape[0]
    parts, rows, inner = integer(table, 3), integer(table, 4), integer(table, 5)
    for part in range(low, high):
        for row in range(part * rows // parts, (part + 1) * rows // parts):
            for c in range(channels):
                at = (row * channels + c) * inner
                for begin in range(0, inner, 512):
                    s, q = _sums(x, at + begin, min(512, inner - begin), firsts[c])
                    sums[part, c] += s
                    sums[parts + part, c] += q


@inlined
def _add_four(x, at, columns, firsts, s, q):
    """Four rows of x to the sums of each column; one by one, the sums would go through memory as often as x."""
    n, one = np.uint64(columns), np.uint64(at)
    for j in range(n):
        f = firsts[j]
        a, b = x[one + j] - f, x[one + n + j] - f
        c, d = x[one + n + n + j] - f, x[one + n + n + n + j] - f
        s[j] += (a + b) + (c + d)
        q[j] += (a * a + b * b) + (c * c + d * d)


@inlined
def _add_one(x, at, columns, firsts, s, q):
    n, one = np.uint64(columns), np.uint64(at)
    for j in range(n):
        a = x[one + j] - firsts[j]
        s[j] += a
        q[j] += a * a


@Kernel
def _sum_columns(table, low, high):
    x, firsts = vector(table, 0, np.float32), vector(table, 1, np.float32)
    sums, columns = matrix(table, 2, np.float64), firsts.shape[0]
    parts, rows, few = integer(table, 3), integer(table, 4), matrix(table, 5, np.float32)
    for part in range(low, high):
        end = (part + 1) * rows // parts
        for begin in range(part * rows // parts, end, 256):
            last = min(begin + 256, end)
            whole = begin + (last - begin) // 4 * 4
            for row in range(begin, whole, 4):
                _add_four(x, row * columns, columns, firsts, few[part], few[parts + part])
            for row in range(whole, last):
                _add_one(x, row * columns, columns, firsts, few[part], few[parts + part])
            for own in (part, parts + part):
                for j in range(columns):
                    sums[own, j] += few[own, j]
                    few[own, j] = np.float32(0.0)


@inlined
def _add_line(g, to, x, at, number, offset, slope):
    for i in range(np.uint64(number)):
        g[np.uint64(to) + i] += offset + slope * x[np.uint64(at) + i]


@Kernel
def _add_together(table, low, high):
    g, x, lines = vector(table, 0, np.float32), vector(table, 1, np.float32), matrix(table, 2, np.float32)
    rows, inner = integer(table, 3), integer(table, 4)
    channels = lines.shape[1]
    for row in range(low * 16, min(high * 16, rows)):
        for c in range(channels):
            at = (row * channels + c) * inner
            _add_line(g, at, x, at % x.shape[0], inner, lines[0, c], lines[1, c])


@inlined
def _add_each(g, to, x, at, number, offsets, slopes):
    for i in range(np.uint64(number)):
        g[np.uint64(to) + i] += offsets[i] + slopes[i] * x[np.uint64(at) + i]


@Kernel
def _add_columns(table, low, high):
    g, x, lines = vector(table, 0, np.float32), vector(table, 1, np.float32), matrix(table, 2, np.float32)
    rows, columns = integer(table, 3), lines.shape[1]
    for row in range(low * 16, min(high * 16, rows)):
        _add_each(g, row * columns, x, row * columns % x.shape[0], columns, lines[0], lines[1])
