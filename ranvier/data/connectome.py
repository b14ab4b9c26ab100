"""Who is wired to whom in a nervous system."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ranvier.core.checks import Refusal


@dataclass(frozen=True, eq=False)
class Connectome:
    """Connections from neuron `pre[i]` to neuron `post[i]` by `synapses[i]` synapses, and what the neurons are called.

    Raises: Refusal for neurons that are not there, and for values that are not one for each connection or neuron.

    >>> a = Connectome(pre=np.array([0, 0]), post=np.array([1, 2]), synapses=np.array([3, 1]), neurons=("A", "B", "C"))
    >>> a.matrix().toarray()
    array([[0, 3, 1],
           [0, 0, 0],
           [0, 0, 0]])
    """

    pre: np.ndarray
    """[E] int64"""
    post: np.ndarray
    """[E] int64"""
    synapses: np.ndarray
    """[E] int64"""
    neurons: tuple[str, ...]
    """[N] names; two neurons may have the same"""
    groups: tuple[str, ...] = ()
    """[N] the kind of each neuron, where known"""
    electrical: np.ndarray | None = None
    """[E] bool: a gap junction, not a chemical synapse, where they are told apart"""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """[N] what else is known of the neurons, by name"""

    def __post_init__(self) -> None:
        count = len(self.pre)
        for name in ("post", "synapses", "electrical"):
            self._require(name, getattr(self, name), count, "connection")
        self._require("groups", self.groups or None, len(self.neurons), "neuron")
        for name, values in self.columns.items():
            self._require(name, values, len(self.neurons), "neuron")
        ends = np.concatenate([self.pre, self.post])
        if count and (ends.min() < 0 or ends.max() >= len(self.neurons)):
            raise Refusal(
                "Connectome",
                expected=f"neurons from 0 to {len(self.neurons) - 1}",
                got=f"{ends.min()} to {ends.max()}",
                do="Number the neurons from 0, and name them all.",
            )

    def _require(self, name: str, values: Sized | None, count: int, each: str) -> None:
        if values is not None and len(values) != count:
            raise Refusal(
                f"Connectome {name}",
                expected=f"{count} values, one for each {each}",
                got=f"{len(values)}",
                do="Give one for each.",
            )

    def __len__(self) -> int:
        return len(self.neurons)

    def matrix(self) -> Any:
        """scipy's CSR matrix [N, N] of synapses, from row to column; connections stated twice are added."""
        from scipy.sparse import csr_array  # half a second, needed only here

        matrix = csr_array((self.synapses, (self.pre, self.post)), shape=(len(self), len(self)))
        matrix.sum_duplicates()
        return matrix

    def take(self, edges: Sequence[int] | np.ndarray) -> "Connectome":
        """All neurons, and the connections at `edges` (numbers, or one bool for each), copied."""
        kept = np.arange(len(self.pre))[np.asarray(edges) if len(edges) else []]
        return replace(
            self,
            pre=self.pre[kept],
            post=self.post[kept],
            synapses=self.synapses[kept],
            electrical=None if self.electrical is None else self.electrical[kept],
        )

    def part(self, neurons: Sequence[int] | np.ndarray) -> "Connectome":
        """Different neurons, in the order given, and the connections among them, copied."""
        kept = np.asarray(neurons, dtype=np.int64)
        if kept.ndim != 1 or len(np.unique(kept)) != len(kept) or (kept < 0).any() or (kept >= len(self)).any():
            raise Refusal(
                "Connectome.part",
                expected=f"different neurons from 0 to {len(self) - 1}",
                got=f"{len(kept)} of them",
                do="Give each once.",
            )
        number = np.full(len(self), -1)
        number[kept] = np.arange(len(kept))
        inside = self.take((number[self.pre] >= 0) & (number[self.post] >= 0))
        return replace(
            inside,
            pre=number[inside.pre],
            post=number[inside.post],
            neurons=tuple(self.neurons[i] for i in kept),
            groups=tuple(self.groups[i] for i in kept) if self.groups else (),
            columns={name: values[kept] for name, values in self.columns.items()},
        )
