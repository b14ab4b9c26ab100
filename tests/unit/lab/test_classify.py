from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranvier.core.checks import NonFinite
from ranvier.data.samples import Batch, Samples, Split
from ranvier.lab.classify import Classify, vote
from ranvier.lab.recipe import Claim, Recipe, Session


def test_folds_votes_networks_and_baselines_are_measured(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    pairs = np.arange(len(split.test)) // 2  # neighbours vote together, whatever their class: the first one's counts
    test = split.test.take(np.argsort(split.test.y, kind="stable"))
    test = Samples(x=test.x, y=test.y, classes=test.classes, group=pairs)

    def always_zero(split: Split, seed: int) -> Tensor:
        return torch.eye(10)[[0] * len(split.test)]

    fit = Classify(
        epochs=12, batch=16, learning_rate=1e-2, folds=2, networks={"twin": network}, baselines={"zero": always_zero}
    )
    recipe = Recipe(network, lambda fold: Split(split.train, test), fit, (Claim("accuracy", ">=", 0, "here"),), "here")
    result = fit(recipe, session)
    kinds = ("accuracy", "worst fold", "vote")
    assert set(result.metrics) == {f"{who}{kind}" for who in ("", "twin: ", "zero: ") for kind in kinds}
    assert result.metrics["accuracy"] > 0.9 and result.metrics["twin: accuracy"] > 0.9
    assert result.metrics["zero: accuracy"] == pytest.approx(np.mean(test.y == 0))
    assert np.sum(result.confusion) == 2 * len(test) and np.trace(result.confusion) == round(
        result.metrics["accuracy"] * 2 * len(test)
    )
    assert {row["fold"] for row in result.curves} == {0, 1} and len(result.curves) == 24
    assert result.examples is not None and sorted(result.examples.y) == [0, 1, 2]


def test_data_that_is_not_finite_is_refused_before_training(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    x = [a.copy() for a in split.train.x]
    x[4][0, 0, 2, 2] = np.nan
    bad = Split(Samples(x=x, y=split.train.y, classes=split.train.classes), split.test)
    fit = Classify(epochs=1, batch=16, learning_rate=1e-2)
    with pytest.raises(NonFinite, match="sample 4 "):
        fit(Recipe(network, lambda fold: bad, fit, (), "here"), session)
    assert not (session.folder / "weights").exists()


def test_stopping_gives_what_is_finished(network: Callable[[], nn.Module], split: Split, session: Session) -> None:
    def data(fold: int) -> Split:
        return split

    def stop(samples: Samples, index: np.ndarray, generator: torch.Generator) -> Batch:
        calls.append(1)
        if len(calls) == 7:
            session.stop.set()
        return samples.batch(index)

    calls: list[int] = []
    fit = Classify(epochs=1, batch=16, learning_rate=1e-2, folds=3, draw=stop, networks={"never": network})
    result = fit(Recipe(network, data, fit, (), "here"), session)
    assert result.interrupted and set(result.metrics) == {"accuracy", "worst fold"}
    assert len(result.curves) == 1 and not list((session.folder / "weights").glob("never*"))


def test_ties_in_a_vote_go_to_the_larger_sum() -> None:
    test = Samples(x=[np.zeros((1, 1))] * 2, y=np.array([1, 1]), classes=("a", "b"), group=np.array([3, 3]))
    assert vote(test, torch.tensor([[1.0, 0.0], [0.0, 5.0]])).tolist() == [True]
    assert vote(test, torch.tensor([[5.0, 0.0], [0.0, 1.0]])).tolist() == [False]
