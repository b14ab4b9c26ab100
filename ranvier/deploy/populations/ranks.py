"""Processes that share a network: who has which neurons, and how they tell each other who has fired."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ranvier.compile.llvm_operations import LANES
from ranvier.core.checks import Refusal

ROOM = 4096
"""Words that a process sends at first; only where one has more to say do all send once more."""

Fired = list[tuple[np.ndarray, np.ndarray]]
"""For each population: how many fired at each step of a window, and who, in the order of steps and neurons."""


class Alone:
    """One process that has all neurons."""

    number, size = 0, 1

    def share(self, neurons: int) -> tuple[int, int]:
        return 0, neurons


class Ranks:
    """The processes of torch.distributed's default group, with neighbouring neurons each."""

    def __init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise Refusal(
                "Network.run(processes=True)",
                expected="a process group",
                got="none",
                do="Call torch.distributed.init_process_group('gloo') in every process first.",
            )
        self.number, self.size = dist.get_rank(), dist.get_world_size()

    def share(self, neurons: int) -> tuple[int, int]:
        """This process's range of a population: whole vectors, so that they are advanced as in one process."""
        return self._begin(neurons, self.number), self._begin(neurons, self.number + 1)

    def _begin(self, neurons: int, number: int) -> int:
        return neurons if number == self.size else neurons * number // self.size // LANES * LANES

    def exchanged(self, own: Fired) -> Fired:
        """What all processes have fired: those of lower number have the neurons of lower index."""
        words = np.concatenate([[sum(c.size + i.size for c, i in own)], *(a for pair in own for a in pair)])
        received = self._gathered(words.astype(np.int32), ROOM)
        most = max(int(r[0]) for r in received) + 1
        if most > ROOM:
            received = self._gathered(words.astype(np.int32), most)
        window, parts = len(own[0][0]), []
        for words in received:
            at, theirs = 1, []
            for _ in own:
                counts = words[at : at + window]
                end = at + window + int(counts.sum())
                theirs.append((counts, words[at + window : end]))
                at = end
            parts.append(theirs)
        return [_merged([theirs[p] for theirs in parts]) for p in range(len(own))]

    def _gathered(self, words: np.ndarray, size: int) -> list[np.ndarray]:
        padded = torch.zeros(size, dtype=torch.int32)
        padded[: len(words)] = torch.from_numpy(words[:size])
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return [f.numpy() for f in found]

    def joined(self, local: Tensor, neurons: int) -> Tensor:
        """A state of all neurons from those that each process has."""
        longest = max(self._begin(neurons, n + 1) - self._begin(neurons, n) for n in range(self.size))
        padded = torch.zeros(longest)
        padded[: len(local)] = local
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return torch.cat([f[: self._begin(neurons, n + 1) - self._begin(neurons, n)] for n, f in enumerate(found)])


def gathered(ranks: "Ranks | Alone", local: Tensor, neurons: int) -> Tensor:
    """A state of all neurons, in every process."""
    return ranks.joined(local, neurons) if isinstance(ranks, Ranks) else local.clone()


def _merged(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Step by step, first those of the first process."""
    steps = np.concatenate([np.repeat(np.arange(len(counts)), counts) for counts, _ in parts])
    index = np.concatenate([index for _, index in parts])
    return np.sum([counts for counts, _ in parts], axis=0), index[np.argsort(steps, kind="stable")]
