"""CPU kernels of a delayed linear layer for input that is mostly not zero: tiles of 8 steps by 16 samples in registers."""

import numpy as np

from ranvier.ops.delayed_linear.vectors import LANES, STEPS, ahead_2, ahead_any, back_2, back_any
from ranvier.ops.native import Kernel, cube, four, inlined, integer, matrix, vector

U = np.uintp  # an index that can't count from the end
DEPTH = 8
"""Channels whose lines stay in the first-level cache while all outputs meet them."""


@Kernel
def to_groups(table, low, high):
    """x [T, B, C] as groups [B / 16, C, steps, 16] from step `front` on, with zeros around."""
    x, groups, front = cube(table, 0, np.float32), four(table, 1, np.float32), integer(table, 2)
    channels, steps = groups.shape[1], groups.shape[2]
    end = front + x.shape[0]
    for block in range(low, high):
        group, c0 = block // (-(-channels // LANES)), block % (-(-channels // LANES)) * LANES
        c1, b0 = min(c0 + LANES, channels), group * LANES
        some = min(LANES, x.shape[1] - b0)
        for c in range(c0, c1):
            groups[group, c, :front] = 0
            groups[group, c, end:steps] = 0
            if some < LANES:
                groups[group, c, front:end] = 0
        for t in range(x.shape[0]):
            for c in range(c0, c1):
                for b in range(some):
                    groups[U(group), U(c), U(front + t), U(b)] = x[U(t), U(b0 + b), U(c)]


@Kernel
def from_groups(table, low, high):
    """The first steps of groups [B / 16, C, steps, 16] as y [T, B, C]."""
    groups, y = four(table, 0, np.float32), cube(table, 1, np.float32)
    channels = groups.shape[1]
    for block in range(low, high):
        group, c0 = block // (-(-channels // LANES)), block % (-(-channels // LANES)) * LANES
        c1, b0 = min(c0 + LANES, channels), group * LANES
        for t in range(y.shape[0]):
            for b in range(min(LANES, y.shape[1] - b0)):
                for c in range(c0, c1):
                    y[U(t), U(b0 + b), U(c)] = groups[U(group), U(c), U(t), U(b)]


@inlined
def _tile(sign, out, to, line, from_, row, first, at, step, taps, width, lanes, number, some):
    if width == 2:
        if sign < 0:
            back_2(out, to, line, from_, row, first, at, step, taps, width, lanes, number, some)
        else:
            ahead_2(out, to, line, from_, row, first, at, step, taps, width, lanes, number, some)
    elif sign < 0:
        back_any(out, to, line, from_, row, first, at, step, taps, width, lanes, number, some)
    else:
        ahead_any(out, to, line, from_, row, first, at, step, taps, width, lanes, number, some)


@Kernel
def tiles(table, low, high):
    """out [B / 16, C', steps, 16] of line [B / 16, C, ...]: a block is 8 steps of 16 samples.

    The synapse between channel c of line and channel j of out is c `first_c` + j `first_j`.
    """
    out, line = four(table, 0, np.float32), four(table, 1, np.float32)
    flat_out, flat_line = vector(table, 2, np.float32), vector(table, 3, np.float32)
    first, taps = vector(table, 4, np.int32), vector(table, 5, np.float32)
    c_step, j_step, front, sign = integer(table, 6), integer(table, 7), integer(table, 8), integer(table, 9)
    width, lanes, number = integer(table, 10), integer(table, 11), integer(table, 12)
    many = out.shape[2] // STEPS
    row, row_out = line.shape[2] * LANES, out.shape[2] * LANES
    for block in range(low, high):
        group, t0 = block // many, block % many * STEPS
        for j in range(out.shape[1]):
            out[group, j, t0 : t0 + STEPS] = 0
        for c in range(0, line.shape[1], DEPTH):
            some = min(DEPTH, line.shape[1] - c)
            from_ = (group * line.shape[1] + c) * row + (front + t0) * LANES
            for j in range(out.shape[1]):
                to = (group * out.shape[1] + j) * row_out + t0 * LANES
                at = c * c_step + j * j_step
                _tile(sign, flat_out, to, flat_line, from_, row, first, at, c_step, taps, width, lanes, number, some)


@Kernel
def spread_taps(table, low, high):
    """Taps [O, I, width] as a kernel with a matrix for each lag [lags, O, I]."""
    first, taps, kernel = matrix(table, 0, np.int32), cube(table, 1, np.float32), cube(table, 2, np.float32)
    number = integer(table, 3)
    for o in range(low, high):
        for lag in range(kernel.shape[0]):
            kernel[lag, o] = 0
        for i in range(first.shape[1]):
            for k in range(min(number, kernel.shape[0] - first[o, i])):
                kernel[U(first[o, i] + k), U(o), U(i)] = taps[U(o), U(i), U(k)]


@Kernel
def collect_taps(table, low, high):
    """The other way round; there is nothing at lags beyond the kernel's."""
    first, taps, kernel = matrix(table, 0, np.int32), cube(table, 1, np.float32), cube(table, 2, np.float32)
    number = integer(table, 3)
    for o in range(low, high):
        for i in range(first.shape[1]):
            inside = min(number, kernel.shape[0] - first[o, i])
            for k in range(inside):
                taps[U(o), U(i), U(k)] = kernel[U(first[o, i] + k), U(o), U(i)]
            for k in range(inside, number):
                taps[U(o), U(i), U(k)] = 0
