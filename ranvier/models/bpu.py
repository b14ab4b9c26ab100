"""A connectome as the fixed core of a network: only what leads into it and out of it is learnt."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal, nearest
from ranvier.core.state import Stateful, state_dtype
from ranvier.data.connectome import Connectome
from ranvier.nn.coding.direct import Direct, positive, static
from ranvier.nn.coding.membrane import LastDecoder
from ranvier.nn.synapses.linear import Linear
from ranvier.nn.units.courses import unrounded


class FixedSynapses(nn.Module):
    """Sparse synapses that are never learnt, as of a connectome.

    y[t, j] = sum over i of W[i, j] x[t, i].

    Input: [T, B, neurons]. Output: [T, B, neurons].
    Raises: Refusal for another number of neurons.

    >>> two = Connectome(pre=np.array([0]), post=np.array([1]), synapses=np.array([3]), neurons=("A", "B"))
    >>> FixedSynapses(two.matrix())(torch.ones(1, 1, 2))
    tensor([[[0., 3.]]])
    """

    def __init__(self, matrix: Any) -> None:
        """`matrix` is scipy's [neurons, neurons], from row to column."""
        super().__init__()
        self.neurons = matrix.shape[0]
        for way, sparse in (("out", matrix.tocsr()), ("in", matrix.T.tocsr())):
            self.register_buffer(f"{way}_rows", torch.from_numpy(sparse.indptr.astype(np.int64)))
            self.register_buffer(f"{way}_columns", torch.from_numpy(sparse.indices.astype(np.int64)))
            self.register_buffer(f"{way}_weights", torch.from_numpy(sparse.data.astype(np.float32)))
        with warnings.catch_warnings():  # torch says once that this layout is in beta
            warnings.filterwarnings("ignore", "Sparse", UserWarning)
            self.product(torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self.neurons:
            raise Refusal(
                "FixedSynapses",
                expected=f"[T, B, {self.neurons}], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make the connectome fit.",
            )
        with unrounded(x):
            y = self.product(state_dtype(x))(x.flatten(0, 1).to(state_dtype(x)).T)
        return y.T.reshape(x.shape).to(x.dtype)

    def product(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """What the neurons get from x [neurons, N], as a function of it."""
        there, back = self._matrix("in", dtype), self._matrix("out", dtype)

        def product(x: Tensor) -> Tensor:
            y: Tensor = _Product.apply(x, there, back)  # type: ignore[no-untyped-call]
            return y

        return product

    def _matrix(self, way: str, dtype: torch.dtype) -> Tensor:
        rows, columns, weights = (self._buffers[f"{way}_{k}"] for k in ("rows", "columns", "weights"))
        assert rows is not None and columns is not None and weights is not None
        size = (self.neurons, self.neurons)
        return torch.sparse_csr_tensor(rows, columns, weights.to(dtype), size, check_invariants=False)


class _Product(torch.autograd.Function):
    """matrix @ x, with the transposed matrix for the way back: torch would transpose it each time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrices = transposed, matrix
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Product.apply(grads[0], *ctx.matrices), None, None  # type: ignore[no-untyped-call]


class Once(nn.Module):
    """A static input is presented at the first step alone.

    y[0] = x[0], y[t] = 0 later.

    Input: a single step [1, B, ...]. Output: [T, B, ...].
    Raises: Refusal for fewer than one step, and for an input of several.

    >>> Once(3)(torch.ones(1, 1, 1)).flatten()
    tensor([1., 0., 0.])
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = positive("Once", steps)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([static("Once", x), x.new_zeros(self.steps - 1, *x.shape[1:])])


class FixedRecurrence(Stateful):
    """Rate neurons joined by fixed synapses: the first of them get the input, the last are read.

    r[t] = max(W^T r[t-1] + e[t], 0); e is x on the first `inputs` neurons and 0 on the others.
    (Spiking: ranvier.Recurrent of any neuron and FixedSynapses.)

    Input: [T, B, inputs]. Output: [T, B, outputs]; all rates are recorded as "r".
    Raises: Refusal for another number of inputs, and for more inputs or outputs than neurons.

    >>> chain = Connectome(pre=np.array([0]), post=np.array([1]), synapses=np.array([3]), neurons=("A", "B"))
    >>> FixedRecurrence(chain.matrix(), 1, 1)(torch.tensor([2.0, 0.0, 0.0]).reshape(3, 1, 1)).flatten()
    tensor([0., 6., 0.])
    """

    records = ("r",)

    def __init__(self, matrix: Any, inputs: int, outputs: int) -> None:
        super().__init__()
        self.synapses, self.inputs, self.outputs = FixedSynapses(matrix), inputs, outputs
        if not 0 < max(inputs, outputs) <= self.synapses.neurons or min(inputs, outputs) < 1:
            raise Refusal(
                "FixedRecurrence",
                expected=f"inputs and outputs among {self.synapses.neurons} neurons",
                got=f"{inputs} and {outputs}",
                do="Order the neurons: the first get the input, the last are read.",
            )

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if x.ndim != 3 or x.shape[2] != self.inputs:
            raise Refusal(
                "FixedRecurrence",
                expected=f"[T, B, {self.inputs}], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make inputs fit.",
            )
        return {"r": x.new_zeros(x.shape[1], self.synapses.neurons, dtype=state_dtype(x))}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        with unrounded(x):
            r = state["r"].T  # neurons first, as a sparse matrix wants them
            product, courses = self.synapses.product(r.dtype), []
            for x_t in x.to(r.dtype).unbind(0):
                current = product(r)
                current[: self.inputs] += x_t.T
                r = current.relu_()
                courses.append(r)
        course = torch.stack(courses) if courses else r.new_zeros(0, *r.shape)
        if self.wants("r"):
            self.note("r", course.transpose(1, 2))
        y = course[:, len(r) - self.outputs :].transpose(1, 2).to(x.dtype)
        return y, {"r": r.T.contiguous()}


def in_pools(
    connectome: Connectome, senses: Sequence[str] = ("sensories",), outputs: Sequence[str] = ("dSEZs", "RGNs")
) -> tuple[Connectome, int, int]:
    """The connectome with its sensory neurons first and its output neurons last, and how many there are of them.

    By default the larval fly's: its 2,952 neurons of the published analysis have 430 sensory ones, and 218 that descend
    to the suboesophageal zone or the ring gland, the only groups that make up the published number of outputs.
    """
    chosen = connectome.columns.get("selected_lcc", np.ones(len(connectome), dtype=bool))
    groups = np.array(connectome.groups)
    first, last = np.isin(groups, senses) & chosen, np.isin(groups, outputs) & chosen
    order = [np.flatnonzero(part) for part in (first, chosen & ~first & ~last, last)]
    return connectome.part(np.concatenate(order)), len(order[0]), len(order[2])


def shuffled(connectome: Connectome, mode: Literal["degree", "weights", "er"], seed: int = 0) -> Connectome:
    """The connectome rewired at random.

    "degree" gives the ends of all connections out anew, which keeps each neuron's numbers of connections in and out;
    "weights" gives their synapse counts out anew; "er" joins any two neurons with the same chance.

    >>> a = Connectome(pre=np.array([0, 0]), post=np.array([1, 2]), synapses=np.array([3, 1]), neurons=("A", "B", "C"))
    >>> int(shuffled(a, "degree").matrix().sum())
    4
    """
    from dataclasses import replace

    generator, count = np.random.default_rng(seed), len(connectome.pre)
    if mode == "degree":
        return replace(connectome, post=generator.permutation(connectome.post))
    if mode == "weights":
        return replace(connectome, synapses=generator.permutation(connectome.synapses))
    if mode == "er":
        pre, post = generator.integers(len(connectome), size=(2, count))
        return replace(connectome, pre=pre, post=post)
    modes = ("degree", "weights", "er")
    raise Refusal("shuffled", expected=f"one of {modes}", got=repr(mode), do=nearest(str(mode), modes))


def spectral_radius(matrix: Any) -> float:
    """The largest absolute eigenvalue of a sparse matrix."""
    from scipy.sparse.linalg import eigs

    values = eigs(matrix.astype(np.float64), k=1, v0=np.ones(matrix.shape[0]), return_eigenvectors=False)
    return float(np.abs(values).max())


def bpu(
    connectome: Connectome,
    senses: int,
    outputs: int,
    inputs: int,
    classes: int,
    *,
    steps: int = 5,
    drive: Literal["first", "all"] = "first",
    radius: float | None = 0.9,
    signs: np.ndarray | None = None,
    dropout: float = 0.2,
) -> nn.Sequential:
    """A network for static inputs [1, B, ...] with a connectome, ordered as by `in_pools`, as its fixed core.

    r[t] = relu(W^T r[t-1] + e[t]); e is dropout(W_in x + b_in) on the sensory neurons, at the `first` step or at `all`;
    the scores are W_out r + b_out of the output neurons at the last step. W has synapse counts times the `signs` of its
    neurons (+1 for all where not known), scaled to the spectral `radius` (None: as it is).
    Source: Yu, Qin, Liu, Xu, Vogelstein, Brown and Vogelstein 2025 (Biological Processing Unit).

    >>> ring = Connectome(pre=np.arange(4), post=np.array([1, 2, 3, 0]), synapses=np.ones(4, int), neurons=tuple("ABCD"))
    >>> bpu(ring, 1, 1, inputs=6, classes=3)(torch.rand(1, 2, 6)).shape
    torch.Size([2, 3])
    """
    if drive not in ("first", "all"):
        raise Refusal("bpu.drive", expected="'first' or 'all'", got=repr(drive), do=nearest(drive, ("first", "all")))
    matrix = connectome.matrix().astype(np.float64)
    if signs is not None:
        matrix = matrix.multiply(signs[:, None]).tocsr()
    if radius is not None:
        matrix = matrix * (radius / spectral_radius(matrix))
    return nn.Sequential(
        nn.Flatten(2),
        Linear(inputs, senses),
        nn.Dropout(dropout),
        Once(steps) if drive == "first" else Direct(steps),
        FixedRecurrence(matrix, senses, outputs),
        Linear(outputs, classes),
        LastDecoder(),
    )
