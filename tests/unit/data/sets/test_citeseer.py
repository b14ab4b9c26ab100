import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.data.sets.citeseer import Citeseer

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in Citeseer.files),
    reason="needs RANVIER_DATA with graphs/citeseer/ in it",
)


def test_the_graph_has_the_published_size_and_split() -> None:
    graph = Citeseer().load("all")
    assert graph.x is not None and graph.y is not None
    assert graph.nodes == 3_327 and graph.edges.shape == (4_552, 2) and graph.x.shape == (3_327, 3_703)
    assert {name: int(mask.sum()) for name, mask in graph.masks.items()} == {"train": 120, "valid": 500, "test": 1000}
    assert sum(mask.astype(int) for mask in graph.masks.values()).max() == 1
    assert np.bincount(graph.y[graph.masks["train"]]).tolist() == [20] * 6


def test_fifteen_papers_have_neither_words_nor_field_nor_mask() -> None:
    graph = Citeseer().load("all")
    assert graph.x is not None and graph.y is not None
    empty = graph.y == -1
    assert empty.sum() == 15 and not graph.x[empty].any() and graph.x[~empty].any(1).all()
    assert not any(mask[empty].any() for mask in graph.masks.values())


def test_the_fields_have_as_many_papers_as_published() -> None:
    graph = Citeseer().load("all")
    assert graph.y is not None
    assert dict(zip(graph.classes, np.bincount(graph.y[graph.y >= 0]).tolist(), strict=True)) == {
        "artificial intelligence": 249,
        "machine learning": 590,
        "information retrieval": 668,
        "databases": 701,
        "agents": 596,
        "human-computer interaction": 508,
    }


def test_words_smoothed_over_two_hops_tell_the_field() -> None:
    from scipy.sparse import eye_array
    from sklearn.linear_model import LogisticRegression

    graph = Citeseer().load("all")
    assert graph.x is not None and graph.y is not None
    hop = graph.adjacency() + eye_array(graph.nodes)
    hop = hop / hop.sum(1)[:, None]
    x, train, test = hop @ (hop @ graph.x), graph.masks["train"], graph.masks["test"]
    known = LogisticRegression(C=100, max_iter=300).fit(x[train], graph.y[train])
    assert known.score(x[test], graph.y[test]) == pytest.approx(0.675, abs=0.03)
