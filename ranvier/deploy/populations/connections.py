"""Who is connected with whom: rules that draw synapses, and synapses that are given."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ranvier.core.checks import Refusal

CHUNK = 1024
"""Targets that share a stream of random numbers: their synapses do not depend on which others are made beside them."""


class Connection(Protocol):
    """What makes the synapses onto some targets: sources and targets of each, and its number among all that are given."""

    drawn: bool

    def synapses(
        self, sources: int, targets: int, low: int, high: int, seed: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class FixedInDegree:
    """Every target gets the same number of synapses, whose sources are drawn with replacement.

    >>> source, target, _ = FixedInDegree(3).synapses(100, 2, 0, 2, (0,))
    >>> source.shape, target.tolist()
    ((6,), [0, 0, 0, 1, 1, 1])
    """

    number: int
    drawn = True

    def __post_init__(self) -> None:
        if self.number < 1:
            raise Refusal(
                "FixedInDegree", expected="a number from 1 on", got=repr(self.number), do="Leave the projection out."
            )

    def synapses(
        self, sources: int, targets: int, low: int, high: int, seed: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = [np.zeros(0, np.int64)]
        for first, begin, end, random in _chunks(targets, low, high, seed):
            drawn = random.integers(0, sources, (min(CHUNK, targets - first), self.number))
            found.append(drawn[begin - first : end - first].ravel())
        return np.concatenate(found), np.repeat(np.arange(low, high), self.number), np.zeros(0, np.int64)


@dataclass(frozen=True)
class FixedProbability:
    """Every pair of neurons is connected with the same probability, independently of the others.

    `itself` says whether a neuron may be connected with itself, where the two populations are one.

    >>> source, target, _ = FixedProbability(0.1).synapses(1000, 50, 0, 50, (0,))
    >>> 4500 < len(source) < 5500, len(set(zip(source.tolist(), target.tolist()))) == len(source)
    (True, True)
    """

    probability: float
    itself: bool = True
    drawn = True

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise Refusal(
                "FixedProbability",
                expected="a probability in (0, 1]",
                got=repr(self.probability),
                do="Give a share of all pairs.",
            )

    def synapses(
        self, sources: int, targets: int, low: int, high: int, seed: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = [np.zeros(0, np.int64)]
        for first, begin, end, random in _chunks(targets, low, high, seed):
            pairs = sources * min(CHUNK, targets - first)
            at, last = [], -1
            while last < pairs:  # from one synapse to the next among all pairs
                gaps = random.geometric(self.probability, int(pairs * self.probability * 1.05) + 16)
                at.append(last + np.cumsum(gaps))
                last = int(at[-1][-1])
            chosen = np.concatenate(at) + first * sources
            found.append(chosen[(chosen >= begin * sources) & (chosen < min(end * sources, first * sources + pairs))])
        pair = np.concatenate(found)
        return pair % sources, pair // sources, np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Given synapses: from source[k] to target[k].

    >>> Pairs([0, 1], [5, 5]).synapses(2, 8, 4, 8, ())
    (array([0, 1]), array([5, 5]), array([0, 1]))
    """

    source: Tensor | np.ndarray | list[int]
    target: Tensor | np.ndarray | list[int]
    drawn = False

    @classmethod
    def from_csr(cls, pointer: Tensor | np.ndarray, index: Tensor | np.ndarray) -> "Pairs":
        """Those of a matrix in compressed sparse rows: row i holds the targets of source i, as in scipy's csr_array.

        >>> Pairs.from_csr(np.array([0, 2, 3]), np.array([1, 2, 0])).source.tolist()
        [0, 0, 1]
        """
        pointer = np.asarray(pointer)
        falling = len(pointer) == 0 or pointer[0] != 0 or bool((np.diff(pointer) < 0).any())
        if falling or pointer[-1] != len(index):
            raise Refusal(
                "Pairs.from_csr",
                expected=f"row pointers that rise from 0 to the {len(index)} synapses",
                got=str(pointer[:8].tolist()) + ("..." if len(pointer) > 8 else ""),
                do="Give indptr and indices of a CSR matrix [sources, targets].",
            )
        return cls(np.repeat(np.arange(len(pointer) - 1), np.diff(pointer)), np.asarray(index))

    def synapses(
        self, sources: int, targets: int, low: int, high: int, seed: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        source, target = (_whole(name, v) for name, v in (("source", self.source), ("target", self.target)))
        if source.shape != target.shape:
            raise Refusal(
                "Pairs",
                expected="as many sources as targets",
                got=f"{len(source)} and {len(target)}",
                do="Give one of each a synapse.",
            )
        for name, found, size in (("source", source, sources), ("target", target, targets)):
            if len(found) and (found.min() < 0 or found.max() >= size):
                bad = found[(found < 0) | (found >= size)]
                raise Refusal(
                    f"Pairs.{name}",
                    expected=f"indices from 0 to {size - 1}, the neurons of the population",
                    got=f"{bad[0]} (and {len(bad) - 1} more outside)",
                    do="Count neurons from 0 in each population.",
                )
        here = np.flatnonzero((target >= low) & (target < high))
        return source[here], target[here], here


def _whole(name: str, given: Tensor | np.ndarray | list[int]) -> np.ndarray:
    found = given.cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise Refusal(
            f"Pairs.{name}",
            expected="a list of whole numbers",
            got=f"{found.dtype} of shape {found.shape}",
            do="Give indices of neurons.",
        )
    return found.astype(np.int64)


def _chunks(
    targets: int, low: int, high: int, seed: tuple[int, ...]
) -> Iterator[tuple[int, int, int, np.random.Generator]]:
    """First target of each chunk that low..high touches, what of it is wanted, and its random numbers."""
    for chunk in range(low // CHUNK, -(-high // CHUNK)):
        first = chunk * CHUNK
        yield first, max(first, low), min(first + CHUNK, high, targets), np.random.default_rng((*seed, chunk))


def per_synapse(subject: str, given: float | int | Tensor | np.ndarray, drawn: bool, synapses: int) -> np.ndarray:
    """A weight or delay as an array of one for all or one for each synapse."""
    found = np.atleast_1d(given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given))
    if found.size > 1 and (drawn or found.shape != (synapses,)):
        raise Refusal(
            subject,
            expected="one number" + ("" if drawn else f", or one for each of the {synapses} synapses"),
            got=f"shape {found.shape}",
            do="Where synapses are drawn, give one; for one each, give Pairs.",
        )
    return found
