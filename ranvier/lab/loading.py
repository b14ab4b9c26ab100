"""What order the training samples come in: a function of seed, fold and epoch alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

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
        self.mine = self._shuffled(self.epoch)
        start, self.skip = self.skip * self.batch, 0
        return iter(self.mine[start:])

    def at(self, batch: int) -> list[int]:
        """The samples of a batch of the current pass; none past its end."""
        return self.mine[batch * self.batch : (batch + 1) * self.batch]

    def next(self) -> list[int]:
        """The samples of the first batch of the next pass."""
        return self._shuffled(self.epoch + 1)[: self.batch]

    def _shuffled(self, epoch: int) -> list[int]:
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.key - epoch))
        wanted = len(self) * self.num_replicas
        mine: list[int] = order.repeat(-(-wanted // self.count))[self.rank : wanted : self.num_replicas].tolist()
        return mine


class Ahead:
    """Makes the next batch in a thread while the device, or another core, works on the current one."""

    def __init__(self, make: Callable[[np.ndarray, int], Batch]) -> None:
        self.make = make
        self.pool: ThreadPoolExecutor | None = None
        self.next: tuple[int, list[int], Future[Batch]] | None = None

    def get(self, index: np.ndarray, step: int, following: list[int]) -> Batch:
        """The batch of these samples at this step; that of `following`, if any, is begun for the step after it."""
        if self.next is None or self.next[:2] != (step, index.tolist()):
            self._begin(index, step)
        assert self.next is not None
        batch = self.next[2].result()
        self.next = None
        if following:
            self._begin(np.asarray(following), step + 1)
        return batch

    def _begin(self, index: np.ndarray, step: int) -> None:
        if self.pool is None:  # not before: a process that is forked later would not have the thread
            self.pool = ThreadPoolExecutor(1, "next batch")
            threads = torch.get_num_threads()
            self.pool.submit(_single).result()
            torch.set_num_threads(threads)  # for threads yet to come; this one's own had not changed
        self.next = step, index.tolist(), self.pool.submit(self.make, index, step)

    def close(self) -> None:
        """End the thread."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
        self.pool = self.next = None


def _single() -> None:
    """Let this new thread compute on its own: it takes the number set last when it is first asked for it, and keeps it."""
    torch.set_num_threads(1)
    torch.get_num_threads()


class Numbers(Dataset[Tensor]):
    """The numbers 0 to count - 1, those of a batch at once: one by one they take longer than a small batch itself."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(index)

    def __getitems__(self, index: list[int]) -> Tensor:
        return torch.tensor(index)


def in_order(order: Order) -> DataLoader[Tensor]:
    """Batches of sample numbers as `order` says."""
    return DataLoader(Numbers(order.count), order.batch, sampler=order, collate_fn=_as_given, generator=_own())


def as_they_are(samples: Any, batch: int) -> DataLoader[Tensor]:
    """All samples in batches, one after the other."""

    def collate(index: Any) -> Batch:
        batch: Batch = samples.batch(index.numpy())
        return batch

    return DataLoader(Numbers(len(samples)), batch, collate_fn=collate, generator=_own())


def _own() -> torch.Generator:
    # a loader draws from its generator each time it starts: from torch's own, that would change what the network draws
    return torch.Generator().manual_seed(0)


def _as_given(index: Any) -> Any:
    return index
