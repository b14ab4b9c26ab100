"""What order the training samples come in: a function of seed, fold and epoch alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from ranvier.data.samples import Batch


def key(seed: int, fold: int) -> int:
    """Where the random numbers of one fold of one run start."""
    return (seed * 1009 + fold) * 1_000_003


class Order(DistributedSampler[Any]):
    """The numbers 0 to count - 1 shuffled anew each epoch, each process's share of them, from any batch on.

    (A DistributedSampler because Lightning puts its own in the place of any other.)

    >>> order = Order(5, 2, seed=0, fold=0)
    >>> whole = list(order)
    >>> order.skip = 1
    >>> list(order) == whole[2:], list(order) == whole
    (True, True)
    """

    def __init__(self, count: int, batch: int, seed: int, fold: int) -> None:
        super().__init__(range(count), num_replicas=1, rank=0)  # type: ignore[arg-type]
        self.count, self.batch = count, batch
        # below 0, so that these are not the numbers that the samples of a batch are varied by
        self.key = -1 - key(seed, fold)
        self.mine: list[int] = []
        self.skip = 0
        """Batches that the next pass leaves out, because they were trained on before."""

    def share(self, processes: int, process: int) -> None:
        """Give only this process's share; the shares are made equal by giving some samples twice."""
        self.num_replicas, self.rank = processes, process

    def __len__(self) -> int:
        return -(-self.count // self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.key - self.epoch))
        wanted = len(self) * self.num_replicas
        self.mine = order.repeat(-(-wanted // self.count))[self.rank : wanted : self.num_replicas].tolist()
        start, self.skip = self.skip * self.batch, 0
        return iter(self.mine[start:])

    def at(self, batch: int) -> list[int]:
        """The samples of a batch of the current pass; none past its end."""
        return self.mine[batch * self.batch : (batch + 1) * self.batch]


class Ahead:
    """Makes the next batch in a thread while the device works on the current one."""

    def __init__(self, make: Callable[[np.ndarray, int], Batch]) -> None:
        self.make = make
        self.pool: ThreadPoolExecutor | None = None
        self.next: tuple[int, list[int], Future[Batch]] | None = None

    def get(self, index: np.ndarray, step: int, following: list[int]) -> Batch:
        """The batch of these samples at this step; that of `following`, if any, is begun for the step after it."""
        if self.next is not None and self.next[:2] == (step, index.tolist()):
            batch = self.next[2].result()
        else:
            batch = self.make(index, step)
        self.next = None
        if following:
            if self.pool is None:  # not before: a process that is forked later would not have the thread
                self.pool = ThreadPoolExecutor(1, "next batch")
            self.next = step + 1, following, self.pool.submit(self.make, np.asarray(following), step + 1)
        return batch

    def close(self) -> None:
        """End the thread."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool = self.next = None


def in_order(order: Order) -> DataLoader[Any]:
    """Batches of sample numbers as `order` says."""
    return DataLoader(
        TensorDataset(torch.arange(order.count)), order.batch, sampler=order, collate_fn=_joined, generator=_own()
    )


def as_they_are(samples: Any, batch: int) -> DataLoader[Any]:
    """All samples in batches, one after the other."""

    def collate(items: list[tuple[Tensor]]) -> Batch:
        batch: Batch = samples.batch(_joined(items).numpy())
        return batch

    return DataLoader(TensorDataset(torch.arange(len(samples))), batch, collate_fn=collate, generator=_own())


def _own() -> torch.Generator:
    # a loader draws from its generator each time it starts: from torch's own, that would change what the network draws
    return torch.Generator().manual_seed(0)


def _joined(items: list[tuple[Tensor]]) -> Tensor:
    return torch.stack([item for (item,) in items])
