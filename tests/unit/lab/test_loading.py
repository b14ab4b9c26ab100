"""The next batch is made meanwhile, by a thread of its own."""

from threading import current_thread

import numpy as np
import pytest
import torch
from torch import nn

from ranvier.data.samples import Batch, Samples, Split
from ranvier.lab import training
from ranvier.lab.loading import Ahead, Numbers, Order
from ranvier.lab.recipe import Session


def test_batches_are_those_asked_for_and_each_is_made_once() -> None:
    made = []

    def make(index: np.ndarray, step: int) -> Batch:
        made.append((step, index.tolist(), current_thread().name, torch.get_num_threads()))
        return Batch(torch.from_numpy(index), torch.tensor(step), torch.tensor(0))

    ahead, before = Ahead(make), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for step, index, following in ((0, [1, 2], [3]), (1, [3], [4]), (2, [5], []), (3, [6], [])):
            batch = ahead.get(np.array(index), step, following)
            assert batch.x.tolist() == index and batch.y == step
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
        ahead.close()
    # what was foreseen wrongly is made again
    assert [m[:2] for m in made] == [(0, [1, 2]), (1, [3]), (2, [4]), (2, [5]), (3, [6])]
    assert all(name.startswith("next batch") and threads == 1 for *_, name, threads in made)


def test_what_goes_wrong_in_a_batch_is_raised_when_it_is_asked_for() -> None:
    def make(index: np.ndarray, step: int) -> Batch:
        raise ValueError("no such recording")

    ahead = Ahead(make)
    with pytest.raises(ValueError, match="no such recording"):
        ahead.get(np.array([0]), 0, [])
    ahead.close()


def test_the_order_foresees_its_next_pass() -> None:
    order = Order(20, 8, seed=1, fold=0)
    list(order)
    foreseen = order.next()
    order.set_epoch(1)
    assert foreseen == list(order)[:8] == order.at(0) and order.at(3) == []
    assert torch.equal(Numbers(20).__getitems__([3, 1]), torch.tensor([3, 1])) and len(Numbers(20)) == 20


@pytest.mark.parametrize(("threads", "processes", "free"), [(1, 1, True), (2, 1, False), (1, 2, False)])
def test_batches_are_made_meanwhile_where_a_core_is_free(
    threads: int, processes: int, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert training._a_processor_is_free(torch.device("cpu"), processes) == free
    assert training._a_processor_is_free(torch.device("cuda"), processes)


def test_no_batch_is_waited_for_but_the_first(
    network: type[nn.Module], split: Split, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    begun = Ahead._begin

    def note(self: Ahead, index: np.ndarray, step: int) -> None:
        steps.append(step)
        begun(self, index, step)

    def draw(samples: Samples, index: np.ndarray, generator: torch.Generator) -> Batch:
        return samples.batch(index)

    def adam(model: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        made = torch.optim.Adam(model.parameters())
        return made, torch.optim.lr_scheduler.ConstantLR(made, 1.0)

    monkeypatch.setattr(training, "_a_processor_is_free", lambda device, processes: True)
    monkeypatch.setattr(Ahead, "_begin", note)
    training.train(network(), split, session, epochs=3, batch=40, optimiser=adam, draw=draw)
    assert steps == list(range(9)), "a batch is made twice where it was foreseen wrongly, or past the end"
