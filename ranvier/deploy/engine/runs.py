"""Where the input of a synapse leads: for each place, runs of neighbouring outputs with neighbouring weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np


@dataclass(frozen=True)
class Runs:
    """`rows[starts[p] : starts[p + 1]]` are the runs of place p: first output, first weight, length.

    Input i is channel i % channels of place i // channels; with each channel outputs move on by `out_step`, weights by
    `weight_step`.
    """

    starts: np.ndarray
    rows: np.ndarray
    channels: int = 1
    weight_step: int = 0
    out_step: int = 0

    @staticmethod
    def of_pairs(
        source: np.ndarray, target: np.ndarray, weights: np.ndarray, inputs: int, slot: int = 1 << 62
    ) -> tuple["Runs", np.ndarray]:
        """Single synapses as runs, and their weights in a fitting order; no run leads past a multiple of `slot`.

        >>> runs, weights = Runs.of_pairs(np.array([1, 0, 1]), np.array([4, 2, 3]), np.float32([4, 2, 3]), 2)
        >>> runs.starts.tolist(), runs.rows.tolist(), weights.tolist()
        ([0, 1, 2], [[2, 0, 1], [3, 1, 2]], [2.0, 3.0, 4.0])
        """
        order = np.lexsort((target, source))
        source, target = source[order], target[order].astype(np.int64)
        joined = (np.diff(source) == 0) & (np.diff(target) == 1) & (target[1:] % slot != 0)
        first = np.flatnonzero(np.concatenate([[True], ~joined])) if len(source) else np.zeros(0, np.int64)
        rows = np.stack([target[first], first, np.diff([*first, len(source)])], 1).astype(np.int32)
        starts = np.searchsorted(source[first], np.arange(inputs + 1)).astype(np.int32)
        return Runs(starts, rows.reshape(-1, 3)), weights[order].astype(np.float32)


def convolution_runs(
    space: Sequence[int],
    weight: np.ndarray,
    stride: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Runs, np.ndarray, tuple[int, ...]]:
    """Runs of a convolution from [*space, C] to [*out, C'], its weights in their order, and the size of `out`.

    Along the last axis the elements of a kernel that meet one input lead to neighbouring places, so that those of all
    their channels are one run.
    """
    sizes = weight.shape[2:]
    out = tuple(
        (n + b + a - d * (k - 1) - 1) // s + 1
        for n, b, a, d, k, s in zip(space, before, after, dilation, sizes, stride, strict=True)
    )
    outputs, own = weight.shape[0] // groups, weight.shape[1]
    last = len(sizes) - 1
    # weights: channel of the group's inputs, element (the last axis backwards, by its remainder), output channel
    elements = sorted(product(*map(range, sizes)), key=lambda e: (*e[:last], e[last] % stride[last], -e[last]))
    at = {element: number for number, element in enumerate(elements)}
    grouped = weight.reshape(groups, outputs, own, -1)
    flat = np.array([np.ravel_multi_index(e, sizes) for e in elements])
    weights = np.ascontiguousarray(grouped[:, :, :, flat].transpose(0, 2, 3, 1), np.float32)  # [G, own, E, outputs]

    starts = [0]
    rows: list[list[int]] = []
    for place in product(*map(range, space)):
        found = []
        for element in elements:
            moved = [p + b - e * d for p, b, e, d in zip(place, before, element, dilation, strict=True)]
            if all(m >= 0 and m % s == 0 and m // s < n for m, s, n in zip(moved, stride, out, strict=True)):
                there = np.ravel_multi_index([m // s for m, s in zip(moved, stride, strict=True)], out)
                found.append((int(there), at[element]))
        for group in range(groups):
            begin = len(rows)
            for where, number in found:
                begins = where * groups * outputs + group * outputs
                origin = group * own * len(elements) * outputs + number * outputs
                if (
                    groups == 1
                    and len(rows) > begin
                    and rows[-1][0] + rows[-1][2] == begins
                    and rows[-1][1] + rows[-1][2] == origin
                ):
                    rows[-1][2] += outputs
                else:
                    rows.append([begins, origin, outputs])
            starts.append(len(rows))
    table = np.array(rows, np.int32).reshape(-1, 3)
    return Runs(np.array(starts, np.int32), table, own, len(elements) * outputs), weights.reshape(-1), out


def pool_runs(shape: Sequence[int], size: int, stride: int) -> tuple[Runs, tuple[int, ...]]:
    """Runs of pooling over squares, from [H, W, C] to [H', W', C], and the shape [C, H', W']."""
    channels, *space = shape
    ones = np.ones((1, 1, size, size), np.float32)
    runs, _, out = convolution_runs(space, ones, (stride, stride), (0, 0), (0, 0), (1, 1), 1)
    wide = [[(o + j) * channels, 0, 1] for o, _, length in runs.rows.tolist() for j in range(length)]
    lengths = runs.rows[:, 2]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return Runs(ends[runs.starts].astype(np.int32), np.array(wide, np.int32).reshape(-1, 3), channels, 0, 1), (
        channels,
        *out,
    )
