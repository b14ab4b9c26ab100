import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.data.sets.cora import Cora

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in Cora.files),
    reason="needs RANVIER_DATA with graphs/cora/ in it",
)


def test_the_graph_has_the_published_size_and_split() -> None:
    graph = Cora().load("all")
    assert graph.x is not None and graph.y is not None
    assert graph.nodes == 2_708 and graph.edges.shape == (5_278, 2) and graph.x.shape == (2_708, 1_433)
    assert set(np.unique(graph.x)) == {0, 1} and graph.x.sum() == 49_216 and (graph.weights == 1).all()
    assert {name: int(mask.sum()) for name, mask in graph.masks.items()} == {"train": 140, "valid": 500, "test": 1000}
    assert sum(mask.astype(int) for mask in graph.masks.values()).max() == 1
    assert np.bincount(graph.y[graph.masks["train"]]).tolist() == [20] * 7


def test_the_fields_have_as_many_papers_as_published() -> None:
    graph = Cora().load("all")
    assert graph.y is not None
    assert dict(zip(graph.classes, np.bincount(graph.y).tolist(), strict=True)) == {
        "theory": 351,
        "reinforcement learning": 217,
        "genetic algorithms": 418,
        "neural networks": 818,
        "probabilistic methods": 426,
        "case based": 298,
        "rule learning": 180,
    }


def test_papers_cite_their_own_field() -> None:
    graph = Cora().load("all")
    assert graph.y is not None
    assert (graph.y[graph.edges[:, 0]] == graph.y[graph.edges[:, 1]]).mean() == pytest.approx(0.81, abs=0.01)


def test_words_smoothed_over_two_hops_tell_the_field() -> None:
    from scipy.sparse import eye_array
    from sklearn.linear_model import LogisticRegression

    graph = Cora().load("all")
    assert graph.x is not None and graph.y is not None
    hop = graph.adjacency() + eye_array(graph.nodes)
    hop = hop / hop.sum(1)[:, None]
    x, train, test = hop @ (hop @ graph.x), graph.masks["train"], graph.masks["test"]
    known = LogisticRegression(C=100, max_iter=300).fit(x[train], graph.y[train])
    assert known.score(x[test], graph.y[test]) == pytest.approx(0.79, abs=0.03)


def test_the_arrays_are_the_callers() -> None:
    first = Cora().load("all")
    assert first.x is not None
    first.x[:] = first.edges[:] = 0
    again = Cora().load("all")
    assert again.x is not None and again.x.any() and again.edges.any()
