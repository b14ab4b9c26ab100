"""Weights as small whole numbers, with a power of two for each group of outputs that share weights."""

import numpy as np

from ranvier.deploy.engine.lowered import Lowered
from ranvier.deploy.operations import Operation, array, synapses

MOST = 2**31 - 1


def quantised(
    lowered: Lowered, op: Operation, bits: int, largest: int, outputs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole weights, their fractional bits by output, and the most that the sum of each output can be.

    Weights have `bits` bits with their sign, or fewer where inputs of up to `largest` could else pass 32 bits; `outputs`
    of a ring are one slot of it.
    """
    weights = array(lowered, op["weights"])
    if op.kind == "dense":
        peak, total = np.abs(weights).max(0), np.abs(weights).sum(0)
        fraction = _fraction(peak, total, len(weights), bits, largest)
        whole = np.rint(weights * 2.0**fraction).astype(np.int64)
        return whole, fraction, np.abs(whole).sum(0) * largest
    _, place, output = synapses(lowered, op)
    output %= outputs
    group = _groups(place, output, weights.size, outputs)
    size = np.abs(weights)
    peak, total, count = np.zeros(outputs), np.zeros(outputs), np.bincount(output, minlength=outputs)
    np.maximum.at(peak, group[output], size[place])
    np.maximum.at(total, group, np.bincount(output, size[place], outputs))
    most = np.zeros(outputs, np.int64)
    np.maximum.at(most, group, count)
    fraction = _fraction(peak, total, most, bits, largest)[group]
    own = np.zeros(weights.size, np.int64)
    own[place] = fraction[output]
    whole = np.rint(weights * 2.0**own).astype(np.int64)
    sums = np.bincount(output, np.abs(whole)[place], outputs).astype(np.int64)
    return whole, fraction, sums * largest


def _fraction(peak: np.ndarray, total: np.ndarray, count: np.ndarray | int, bits: int, largest: int) -> np.ndarray:
    """The most fractional bits with which the largest weight fits, and the sum of all of them into 32 bits."""
    with np.errstate(divide="ignore"):
        fit = np.floor(np.log2((2 ** (bits - 1) - 1) / peak))
        # rounding adds up to a half for each weight
        room = np.floor(np.log2(np.maximum(MOST / largest - np.asarray(count) / 2, 1) / total))
    least = np.where(peak > 0, np.minimum(fit, room), 0)
    fraction: np.ndarray = np.clip(least, -30, 30).astype(np.int64)
    return fraction


def _groups(place: np.ndarray, output: np.ndarray, weights: int, outputs: int) -> np.ndarray:
    """For each output the least of those that share weights with it, directly or along others."""
    group = np.arange(outputs)
    while True:
        of_weight = np.full(weights, outputs)
        np.minimum.at(of_weight, place, group[output])
        new = group.copy()
        np.minimum.at(new, output, of_weight[place])
        if (new == group).all():
            return group
        group = new


def room(lowered: Lowered, op: Operation, bits: int, outputs: int) -> int:
    """Of how many bits inputs may be so that weights of full precision keep every sum within 32 bits."""
    sums = quantised(lowered, op, bits, 1, outputs)[2]
    return int(np.floor(np.log2(MOST / max(int(sums.max(initial=1)), 1))))
