from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.samples import Batch, Samples, Split
from ranvier.lab.recipe import Session
from ranvier.lab.training import forward, predict, train


def adam(model: nn.Module, steps: int, lr: float = 5e-3) -> Any:
    made = torch.optim.Adam(model.parameters(), lr)
    return made, torch.optim.lr_scheduler.ConstantLR(made, 1.0)


def accuracy(model: nn.Module, samples: Samples) -> float:
    return float(np.mean(predict(model, samples).argmax(1).numpy() == samples.y))


def test_it_learns_and_records_every_epoch(network: Callable[[], nn.Module], split: Split, session: Session) -> None:
    torch.manual_seed(0)
    model = network()
    before = accuracy(model, split.test)
    rows = train(model, split, session, epochs=8, batch=16, optimiser=adam)
    assert [row["epoch"] for row in rows] == list(range(1, 9))
    assert rows[-1]["train loss"] < 0.5 * rows[0]["train loss"]
    assert accuracy(model, split.test) == pytest.approx(rows[-1]["test accuracy"]) and rows[-1]["test accuracy"] > max(
        before, 0.9
    )


def test_the_weights_on_disk_are_those_in_memory(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    model, other = network(), network()
    train(model, split, session, epochs=1, batch=32, optimiser=adam)
    other.load_state_dict(ranvier.load(session.folder / "weights" / "model-0.safetensors"))
    assert torch.equal(predict(model, split.test), predict(other, split.test))


def test_stopping_keeps_the_weights(network: Callable[[], nn.Module], split: Split, session: Session) -> None:
    def stop_in_the_third_epoch(samples: Samples, index: np.ndarray, generator: torch.Generator) -> Batch:
        calls.append(1)
        if len(calls) == 8:
            session.stop.set()
        return samples.batch(index)

    calls: list[int] = []
    rows = train(network(), split, session, epochs=50, batch=32, optimiser=adam, draw=stop_in_the_third_epoch)
    assert len(rows) == 2 and len(calls) == 8
    assert ranvier.load(session.folder / "weights" / "model-0.safetensors")


class Blow(nn.Module):
    """Gives Inf once a sample's ink exceeds a limit."""

    def forward(self, x: Tensor) -> Tensor:
        ink = x.sum(-1, keepdim=True)
        return x + torch.where(ink > 1e4, torch.inf, 0.0)


def test_a_loss_that_is_not_finite_names_layer_and_sample(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    x = [*split.train.x]
    x[17] = x[17] + 1e5
    model = network()
    model.insert(2, Blow())  # type: ignore[operator]
    bad = Split(replace(split.train, x=x), split.test)
    with pytest.raises(NonFinite, match=r"layer '2' \(Blow\), sample 17 of the training set"):
        train(model, bad, session, epochs=1, batch=32, optimiser=adam)


def test_a_gradient_that_is_not_finite_stops_before_the_step(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 0 * (x.detach() * 0 + self.at_zero).sqrt()

        def __init__(self) -> None:
            super().__init__()
            self.at_zero = nn.Parameter(torch.zeros(()))

    model = network()
    model.append(Root())  # type: ignore[operator]
    with pytest.raises(NonFinite, match=r"the gradient of '8\.at_zero'"):
        train(model, split, session, epochs=1, batch=32, optimiser=adam)
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_diverging_run_keeps_the_last_good_weights(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    def explode(model: nn.Module, steps: int) -> Any:
        made = torch.optim.SGD(model.parameters(), 1.0)
        return made, torch.optim.lr_scheduler.LambdaLR(made, lambda step: 1e-3 if step < 4 else 1e38)

    with pytest.raises(NonFinite):
        train(network(), split, session, epochs=4, batch=32, optimiser=explode)
    kept = ranvier.load(session.folder / "weights" / "model-0.safetensors")
    assert all(bool(t.isfinite().all()) for t in kept.values())


def test_scores_of_another_shape_are_refused(split: Split) -> None:
    with pytest.raises(Refusal, match=r"model output: expected scores \[B=.*decoder"):
        forward(nn.Flatten(2), split.test.batch())


def test_ragged_sequences_are_scored_as_if_alone() -> None:
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n, 3)).astype(np.float32) for n in (5, 9, 2)]
    samples = Samples(x=x, y=np.array([0, 1, 0]), classes=("a", "b"))
    model = nn.Sequential(ranvier.Linear(3, 2), ranvier.LIF(), ranvier.RateDecoder())
    alone = torch.cat([predict(model, samples.take([i])) for i in range(3)])
    assert torch.allclose(predict(model, samples), alone)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(precision: str, network: Callable[[], nn.Module], split: Split, session: Session) -> None:
    rows = train(network(), split, replace(session, precision=precision), epochs=4, batch=16, optimiser=adam)
    assert rows[-1]["train accuracy"] > 0.8


def test_two_processes_train_one_network(network: Callable[[], nn.Module], split: Split, session: Session) -> None:
    model = network()
    rows = train(model, split, replace(session, devices=2), epochs=12, batch=8, optimiser=adam)
    assert len(rows) == 12 and accuracy(model, split.test) > 0.9


def test_the_same_seed_trains_the_same_network(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(0)
        model = network()

        def noisy(samples: Samples, index: np.ndarray, generator: torch.Generator) -> Batch:
            batch = samples.batch(index)
            return batch._replace(x=batch.x + 0.1 * torch.randn(batch.x.shape, generator=generator))

        train(model, split, replace(session, seed=seed), epochs=1, batch=32, optimiser=adam, draw=noisy)
        return torch.cat([p.flatten() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


def test_lightnings_own_end_for_sigterm_counts_as_stopped(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    """It comes by where a signal falls between the last batch of an epoch and the end of it."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    def ended(samples: Samples, index: np.ndarray, generator: torch.Generator) -> Batch:
        session.stop.set()
        raise SIGTERMException

    assert train(network(), split, session, epochs=2, batch=32, optimiser=adam, draw=ended) == []
    session.stop.clear()

    def not_asked_for(samples: Samples, index: np.ndarray, generator: torch.Generator) -> Batch:
        raise SIGTERMException

    with pytest.raises(SystemExit):
        train(network(), split, session, epochs=2, batch=32, optimiser=adam, draw=not_asked_for)


def test_each_epoch_is_told_of_the_epoch_before_its_first_batch(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    seen: list[int] = []
    model = network()

    def note(given: nn.Module, epoch: int) -> None:
        assert given is model
        seen.append(epoch)

    train(model, split, session, epochs=3, batch=32, optimiser=adam, each_epoch=note)
    assert seen == [0, 1, 2]
