"""Undirected graphs with weights, features, labels and known cuts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ranvier.core.checks import Refusal


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes 0 to `nodes` - 1 and undirected edges between them, each stated once.

    Raises: Refusal for edges between nodes that are not there, edges from a node to itself or stated twice, and values
    that are not one for each edge or node.

    >>> triangle = Graph(nodes=3, edges=np.array([[0, 1], [1, 2], [0, 2]]), weights=np.array([1, 2, 3]))
    >>> triangle.cut([1, 1, -1]), triangle.part([1, 2]).weights
    (5, array([2]))
    """

    nodes: int
    edges: np.ndarray
    """[E, 2] int64"""
    weights: np.ndarray
    """[E]"""
    x: np.ndarray | None = None
    """[nodes, features] float32"""
    y: np.ndarray | None = None
    """[nodes] int64 class numbers, -1 where a node has none"""
    classes: tuple[str, ...] = ()
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    """[nodes] bool: which nodes are for "train", "valid" and "test" """
    best_cut: int | None = None
    """the greatest weight of a cut that is known"""
    assignment: np.ndarray | None = None
    """[nodes] a known side of each node, -1 or 1; its cut may weigh less than the best known"""

    def __post_init__(self) -> None:
        if self.edges.ndim != 2 or self.edges.shape[1:] != (2,) or self.weights.shape != self.edges.shape[:1]:
            raise Refusal(
                "Graph",
                expected="edges [E, 2] and weights [E]",
                got=f"{list(self.edges.shape)} and {list(self.weights.shape)}",
                do="Give two nodes and one weight for each edge.",
            )
        if len(self.edges) and (self.edges.min() < 0 or self.edges.max() >= self.nodes):
            raise Refusal(
                "Graph edges",
                expected=f"nodes from 0 to {self.nodes - 1}",
                got=f"{self.edges.min()} to {self.edges.max()}",
                do="Number the nodes from 0.",
            )
        low, high = self.edges.min(1), self.edges.max(1)
        if (low == high).any():
            node = int(low[low == high][0])
            raise Refusal("Graph edges", expected="two different nodes each", got=f"{node} twice", do="Leave it out.")
        if len(np.unique(low.astype(np.int64) * self.nodes + high)) != len(self.edges):
            raise Refusal("Graph edges", expected="each once", got="one twice", do="Add up the weights of the two.")
        per_node = {"x": self.x, "y": self.y, "assignment": self.assignment}
        for name, values in {**per_node, **{f"mask {n!r}": m for n, m in self.masks.items()}}.items():
            if values is not None and len(values) != self.nodes:
                raise Refusal(
                    f"Graph {name}",
                    expected=f"{self.nodes} values, one for each node",
                    got=f"{len(values)}",
                    do="Give one for each.",
                )

    def cut(self, assignment: Sequence[int] | np.ndarray) -> Any:
        """The weight of the edges between the two sides; `assignment` [nodes] holds any two numbers, as -1 and 1."""
        side = np.asarray(assignment)
        if side.shape != (self.nodes,) or len(np.unique(side)) > 2:
            raise Refusal(
                "Graph.cut",
                expected=f"a side for each of {self.nodes} nodes, -1 or 1",
                got=f"shape {list(side.shape)} with {len(np.unique(side))} different values",
                do="Take the sign, for instance.",
            )
        return self.weights[side[self.edges[:, 0]] != side[self.edges[:, 1]]].sum().item()

    def adjacency(self) -> Any:
        """scipy's CSR matrix [nodes, nodes] of the weights, symmetric."""
        from scipy.sparse import csr_array  # half a second, needed only here

        rows, columns = np.concatenate([self.edges, self.edges[:, ::-1]]).T
        weights = np.concatenate([self.weights, self.weights])
        return csr_array((weights, (rows, columns)), shape=(self.nodes, self.nodes))

    def part(self, nodes: Sequence[int] | np.ndarray) -> "Graph":
        """Different nodes, in the order given, the edges among them, and what is known of them, copied; but for cuts."""
        kept = np.asarray(nodes, dtype=np.int64)
        if kept.ndim != 1 or len(np.unique(kept)) != len(kept) or (kept < 0).any() or (kept >= self.nodes).any():
            raise Refusal(
                "Graph.part",
                expected=f"different nodes from 0 to {self.nodes - 1}",
                got=f"{len(kept)} of them",
                do="Give each once.",
            )
        number = np.full(self.nodes, -1)
        number[kept] = np.arange(len(kept))
        edges = number[self.edges]
        inside = (edges >= 0).all(1)
        return replace(
            self,
            nodes=len(kept),
            edges=edges[inside],
            weights=self.weights[inside],
            x=None if self.x is None else self.x[kept],
            y=None if self.y is None else self.y[kept],
            masks={name: mask[kept] for name, mask in self.masks.items()},
            best_cut=None,
            assignment=None,
        )

    def around(self, edges: int) -> "Graph":
        """The part that the first so many edges span: a small graph that has edges."""
        return self.part(np.unique(self.edges[:edges]))
