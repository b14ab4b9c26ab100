"""Bernoulli spikes on the CPU: drawn twice, once to count and once to write them at their place; blocks are samples."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ranvier.ops.bernoulli_spikes.reference import GOLDEN
from ranvier.ops.native import Kernel, inlined, integer, matrix, vector
from ranvier.ops.spike_pack.spikes import Spikes

_GOLDEN = np.uint64(GOLDEN)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_U30, _U27, _U31, _U11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def bernoulli_spikes(probability: Tensor, steps: int, seed: Tensor) -> Spikes:
    """Spikes [T, B, I] for float64 probabilities [B, I]."""
    batch, inputs = probability.shape
    count = torch.zeros(steps * batch, dtype=torch.int64)
    expected = int(probability.sum() * steps) + batch * inputs
    _kernel()(batch, expected, probability, seed, steps, 0, count, torch.empty(0, dtype=torch.int32))
    pointer = functional.pad(count.cumsum(0), (1, 0))
    place, index = pointer[:-1].clone(), torch.empty(int(pointer[-1]), dtype=torch.int32)
    _kernel()(batch, expected, probability, seed, steps, 1, place, index)
    return Spikes(pointer, index, torch.Size((steps, batch, inputs)))


@inlined
def _mixed(x):
    x = (x ^ (x >> _U30)) * _FIRST
    x = (x ^ (x >> _U27)) * _SECOND
    return x ^ (x >> _U31)


@inlined
def _draw(chance, seed, steps, write, place, index, low, high):
    batch, inputs = chance.shape
    for b in range(low, high):
        number = _GOLDEN
        for i in range(inputs):
            p = chance[b, i]
            key = _mixed(np.uint64(seed[b]) ^ _mixed(number))
            number += _GOLDEN
            if p <= 0:
                continue
            slope = math.log1p(-p) if p < 1 else -math.inf
            step, draw = -1.0, key
            while True:
                draw += _GOLDEN
                u = (np.float64(_mixed(draw) >> _U11) + 1.0) * 2.0**-53
                step += 1.0 + math.floor(math.log(u) / slope)
                if step >= steps:
                    break
                row = np.int64(step) * batch + b
                if write:
                    index[place[row]] = i
                place[row] += 1


@cache
def _kernel() -> Kernel:
    def bernoulli_spikes(table, low, high):
        chance, seed, steps = matrix(table, 0, np.float64), vector(table, 1, np.int64), integer(table, 2)
        place, index = vector(table, 4, np.int64), vector(table, 5, np.int32)
        _draw(chance, seed, steps, integer(table, 3), place, index, low, high)

    return Kernel(bernoulli_spikes)
