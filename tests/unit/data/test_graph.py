from itertools import product

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.graph import Graph

EDGES = np.array([[0, 1], [2, 1], [2, 3], [3, 0], [0, 2]])
WEIGHTS = np.array([3, -1, 2, 5, 4])


def made() -> Graph:
    return Graph(
        nodes=5,
        edges=EDGES.copy(),
        weights=WEIGHTS.copy(),
        x=np.arange(10, dtype=np.float32).reshape(5, 2),
        y=np.array([0, 1, 1, 0, -1]),
        classes=("a", "b"),
        masks={"train": np.array([True, False, True, False, False])},
        best_cut=10,
        assignment=np.array([1, -1, -1, -1, 1]),
    )


def test_a_cut_weighs_as_the_laplacian_says() -> None:
    graph = made()
    adjacency = graph.adjacency().toarray()
    laplacian = np.diag(adjacency.sum(0)) - adjacency
    for sides in product((-1, 1), repeat=5):
        s = np.array(sides)
        assert graph.cut(s) == s @ laplacian @ s / 4
        assert graph.cut(s) == graph.cut(-s) == graph.cut(s > 0) == graph.cut((s + 1) // 2)
    assert graph.cut([1] * 5) == 0 and type(graph.cut([1, 0, 0, 0, 0])) is int


def test_weights_that_are_no_integers_are_cut_too() -> None:
    assert Graph(nodes=2, edges=np.array([[0, 1]]), weights=np.array([0.5])).cut([0, 1]) == 0.5


@pytest.mark.parametrize("assignment", [[1, -1], [1, 0, -1, 1, 1], [[1], [1], [1], [1], [1]]])
def test_what_is_no_assignment_is_refused(assignment: list[int]) -> None:
    with pytest.raises(Refusal, match="a side for each of 5 nodes"):
        made().cut(assignment)


def test_the_adjacency_is_symmetric() -> None:
    adjacency = made().adjacency()
    assert adjacency.shape == (5, 5) and adjacency.nnz == 2 * len(EDGES) and (adjacency != adjacency.T).nnz == 0
    assert adjacency[1, 2] == -1


def test_a_part_has_the_edges_among_its_nodes() -> None:
    part = made().part([3, 0, 2])
    assert part.edges.tolist() == [[2, 0], [0, 1], [1, 2]] and part.weights.tolist() == [2, 5, 4]
    assert part.x is not None and part.x.tolist() == [[6, 7], [0, 1], [4, 5]]
    assert part.y is not None and part.y.tolist() == [0, 0, 1] and part.masks["train"].tolist() == [False, True, True]
    assert part.classes == ("a", "b") and part.best_cut is None and part.assignment is None


def test_a_part_is_a_copy() -> None:
    graph = made()
    part = graph.part(range(5))
    assert part.x is not None and part.y is not None
    for array in (part.edges, part.weights, part.x, part.y, part.masks["train"]):
        array[:] = 0
    for a, b in ((graph.edges, EDGES), (graph.weights, WEIGHTS), (graph.x, made().x), (graph.y, made().y)):
        assert np.array_equal(a, b)  # type: ignore[arg-type]
    assert graph.masks["train"].any()


def test_a_part_around_edges_has_edges() -> None:
    assert made().around(2).edges.tolist() == [[0, 1], [2, 1], [0, 2]]


@pytest.mark.parametrize("nodes", [[0, 0], [5], [-1]])
def test_a_part_of_no_nodes_of_it_is_refused(nodes: list[int]) -> None:
    with pytest.raises(Refusal, match="different nodes from 0 to 4"):
        made().part(nodes)


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ([[0, 3]], "nodes from 0 to 2; got 0 to 3"),
        ([[-1, 0]], "nodes from 0 to 2; got -1 to 0"),
        ([[1, 1]], "two different nodes each; got 1 twice"),
        ([[0, 1], [1, 0]], "each once; got one twice"),
        ([[0, 1, 2]], r"edges \[E, 2\] and weights \[E\]"),
    ],
)
def test_edges_that_make_no_graph_are_refused(edges: list[list[int]], said: str) -> None:
    with pytest.raises(Refusal, match=said):
        Graph(nodes=3, edges=np.array(edges), weights=np.ones(len(edges)))


def test_values_that_are_not_one_for_each_are_refused() -> None:
    edges, weights = np.array([[0, 1]]), np.ones(1)
    with pytest.raises(Refusal, match=r"weights \[E\]"):
        Graph(nodes=3, edges=edges, weights=np.ones(2))
    for name in ("x", "y", "assignment"):
        with pytest.raises(Refusal, match=f"Graph {name}: expected 3 values.*got 2"):
            Graph(nodes=3, edges=edges, weights=weights, **{name: np.ones(2)})  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="Graph mask 'test': expected 3 values"):
        Graph(nodes=3, edges=edges, weights=weights, masks={"test": np.ones(4, dtype=bool)})


def test_a_graph_may_have_no_edges() -> None:
    empty = Graph(nodes=2, edges=np.zeros((0, 2), dtype=np.int64), weights=np.zeros(0, dtype=np.int64))
    assert empty.cut([0, 1]) == 0 and empty.adjacency().nnz == 0
