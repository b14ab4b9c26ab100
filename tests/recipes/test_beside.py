"""What recipes with a fit of their own measure beside the network, at a size of seconds."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from ranvier.core.checks import NonFinite
from ranvier.lab.recipe import Session
from ranvier.recipes import deep_eisnn, lmu_har

WhereItIs = Callable[[Callable[[], object]], object]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path, progress=False, accelerator="cpu")


def test_lmu_har_prunes_each_folds_network_and_times_a_window(session: Session, where_it_is: WhereItIs) -> None:
    recipe = lmu_har.lmu_har(smoke=True)
    where_it_is(lambda: recipe.data(0))
    result = lmu_har._fit(recipe.fit, partial(lmu_har._network, 96, 16), recipe, session)  # type: ignore[arg-type]
    full = lmu_har.lmu_har()
    measured = {"accuracy", "pruned: accuracy", "parameters", "milliseconds a window"}
    assert measured <= result.metrics.keys() and result.metrics["parameters"] < 150_000
    assert {claim.metric for claim in full.claims} - measured == {"Braille, 27 letters: accuracy"}
    assert (session.folder / "pruned" / "weights" / "network-0.safetensors").exists()


def test_the_random_matrix_has_legendres_radius() -> None:
    transition, entry = lmu_har._random_stable()
    legendre, same = lmu_har.legendre_matrices(lmu_har.ORDER, lmu_har.THETA)
    radii = [float(torch.linalg.eigvals(m).abs().max()) for m in (transition, legendre)]
    assert radii[0] == pytest.approx(radii[1]) and torch.equal(entry, same) and not torch.equal(transition, legendre)


def test_deep_eisnn_counts_a_network_that_diverges_as_chance(session: Session, where_it_is: WhereItIs) -> None:
    recipe = deep_eisnn.deep_eisnn(smoke=True)
    where_it_is(lambda: recipe.data(0))

    def broken() -> nn.Module:
        net = deep_eisnn.plain_mlp(784, 10, (8,))
        nn.init.constant_(net[1].weight, float("nan"))  # type: ignore[arg-type]
        return net

    others = {"plain": partial(deep_eisnn.plain_mlp, 784, 10, (8,)), "broken": broken}
    fit = replace(recipe.fit, epochs=1, networks=others)  # type: ignore[type-var]
    result = fit(recipe, session)
    assert result.metrics["broken: accuracy"] == 0.1
    assert {"accuracy", "plain: accuracy"} <= result.metrics.keys()
    again = session.folder / "again"
    again.mkdir()
    with pytest.raises(NonFinite):
        replace(fit, may_diverge=False)(recipe, replace(session, folder=again))
