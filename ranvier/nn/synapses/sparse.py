from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.ops.sparse_linear import Pattern, pattern, sparse_linear


class _Wiring(Protocol):
    """What `ranvier.data.connectome.Connectome` offers."""

    def matrix(self) -> Any: ...


class SparseLinear(nn.Module):
    """Synapses on a fixed pattern, as those of a connectome: only the values of synapses that are there are trained.

    y[t, j] = b[j] + the sum over the synapses s that lead to j of w[s] x[t, index[s]].

    The pattern is a matrix [out, in] in compressed sparse rows: those of neuron j are `pointer[j]` to `pointer[j + 1] - 1`, and
    `index` says which input each comes from, in rising order. w = values; with `dale` w = sign |values|, where the sign
    is the one that each value begins with: the strength of a synapse is learnt, and excitation stays excitation.

    Input: [T, B, ..., in_features]. Output: [T, B, ..., out_features].
    Raises: Refusal for fewer than three axes or another number of features; for a pointer that does not fit or falls, an
    index that is unsorted, duplicate or out of range; with `dale` for a presynaptic neuron of both signs.
    Source: of `dale`, H. Dale 1935 as stated by J. Eccles 1954: one neuron, one sign.

    >>> layer = SparseLinear([0, 1, 3], [1, 0, 1], in_features=2, values=[1.0, 2.0, 3.0], bias=False)
    >>> layer(torch.tensor([[[1.0, 10.0]]])).tolist()
    [[[10.0, 32.0]]]
    """

    pointer: Tensor
    index: Tensor
    sign: Tensor | None

    def __init__(
        self,
        pointer: Sequence[int] | Tensor,
        index: Sequence[int] | Tensor,
        in_features: int,
        values: Sequence[float] | Tensor | None = None,
        bias: bool = True,
        *,
        dale: bool = False,
    ) -> None:
        super().__init__()
        start, source = torch.as_tensor(pointer, dtype=torch.int64), torch.as_tensor(index)
        source = source if source.numel() else source.to(torch.int64)
        _refuse_pattern(start, source, in_features)
        self.in_features, self.out_features, self.dale = in_features, len(start) - 1, dale
        self.register_buffer("pointer", start.clone())
        self.register_buffer("index", source.to(torch.int32, copy=True))
        self._turn()
        given = self._drawn() if values is None else torch.as_tensor(values)
        if given.shape != source.shape or not given.is_floating_point():
            raise Refusal(
                "SparseLinear.values",
                expected=f"{len(source)} floating-point numbers, one for each synapse",
                got=f"{given.dtype} of shape {tuple(given.shape)}",
                do="Give one for each, in the order of index.",
            )
        self.values = nn.Parameter(given.detach().clone())
        self.register_buffer("sign", self._signs() if dale else None)
        self.bias = nn.Parameter(torch.zeros(self.out_features, dtype=given.dtype)) if bias else None
        self.register_load_state_dict_post_hook(_turned_anew)  # type: ignore[no-untyped-call]

    @classmethod
    def from_dense(cls, weight: Tensor, bias: bool = True, *, dale: bool = False) -> "SparseLinear":
        """Synapses where weight [out, in] is not zero, with its values; of a bool mask with values drawn at random.

        >>> SparseLinear.from_dense(torch.tensor([[0.0, 1.0], [2.0, 3.0]])).index.tolist()
        [1, 0, 1]
        """
        if weight.ndim != 2:
            got = f"shape {tuple(weight.shape)}"
            raise Refusal("SparseLinear", expected="a matrix [out, in]", got=got, do="Give one weight for each pair.")
        place = weight.detach() != 0
        pointer = torch.zeros(len(weight) + 1, dtype=torch.int64)
        pointer[1:] = place.sum(1).cumsum(0)
        values = None if weight.dtype == torch.bool else weight.detach()[place]
        return cls(pointer, place.nonzero()[:, 1], weight.shape[1], values, bias, dale=dale)

    @classmethod
    def from_connectome(
        cls,
        connectome: _Wiring,
        signs: Sequence[float] | Tensor | None = None,
        scale: float = 1.0,
        bias: bool = True,
        *,
        dale: bool = False,
    ) -> "SparseLinear":
        """A nervous system's own wiring: values are the numbers of synapses times `scale`, and times `signs` [N] of the
        neurons that they come from."""
        wiring = connectome.matrix().T.tocsr()
        wiring.sort_indices()
        index = torch.from_numpy(wiring.indices.astype("int64"))
        values = scale * torch.from_numpy(wiring.data.astype("float32"))
        if signs is not None:
            each = torch.as_tensor(signs, dtype=values.dtype)
            if each.shape != (wiring.shape[1],):
                got = f"shape {tuple(each.shape)}"
                raise Refusal("SparseLinear.signs", expected=f"{wiring.shape[1]}", got=got, do="Give one a neuron.")
            values = values * each[index]
        return cls(torch.from_numpy(wiring.indptr.astype("int64")), index, wiring.shape[1], values, bias, dale=dale)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 3 or x.shape[-1] != self.in_features:
            raise Refusal(
                "SparseLinear",
                expected=f"[T, B, ..., {self.in_features}], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make in_features fit.",
            )
        turned = (self.get_buffer(name) for name in _TURNED)
        return sparse_linear(x, Pattern(self.pointer, self.index, *turned), self.weight, self.bias)

    @property
    def weight(self) -> Tensor:
        """[synapses]: the values, with their signs where those are fixed."""
        return self.values if self.sign is None else self.sign * self.values.abs()

    def extra_repr(self) -> str:
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, synapses={len(self.index)}"
        return f"{sizes}, bias={self.bias is not None}" + (", dale=True" if self.dale else "")

    def _turn(self) -> None:
        found = pattern(self.pointer, self.index, self.in_features)
        for name in _TURNED:
            self.register_buffer(name, getattr(found, name), persistent=False)

    def _drawn(self) -> Tensor:
        """Uniform within 1 / sqrt(number of a neuron's synapses), as torch's Linear begins."""
        number = self.pointer.diff().clamp(min=1).repeat_interleave(self.pointer.diff())
        return (2 * torch.rand(len(self.index)) - 1) / number.sqrt()

    def _signs(self) -> Tensor:
        index, values = self.index.long(), self.values.detach()
        up = torch.zeros(self.in_features, dtype=torch.bool).index_put((index[values > 0],), torch.tensor(True))
        down = torch.zeros(self.in_features, dtype=torch.bool).index_put((index[values < 0],), torch.tensor(True))
        both = (up & down).nonzero()[:, 0]
        if len(both):
            raise Refusal(
                "SparseLinear.values",
                expected="one sign for each presynaptic neuron, as Dale's law has it",
                got=f"both signs from neuron {int(both[0])} and {len(both) - 1} others",
                do="Multiply their absolute values by one sign a neuron, or leave out dale=True.",
            )
        return torch.where(down, -1.0, 1.0).to(values.dtype)[index]


_TURNED = ("row", "back_pointer", "back_index", "order")


def _turned_anew(layer: nn.Module, keys: object) -> None:
    assert isinstance(layer, SparseLinear)
    layer._turn()


def _refuse_pattern(pointer: Tensor, index: Tensor, inputs: int) -> None:
    if index.ndim != 1 or index.is_floating_point():
        got = f"{index.dtype} of shape {tuple(index.shape)}"
        raise Refusal("SparseLinear.index", expected="whole numbers [synapses]", got=got, do="Give one a synapse.")
    if pointer.ndim != 1 or not len(pointer) or pointer[0] != 0 or pointer[-1] != len(index):
        raise Refusal(
            "SparseLinear.pointer",
            expected=f"where each neuron's synapses begin, from 0 to {len(index)}",
            got=f"{pointer.tolist()[:3]} ... {pointer.tolist()[-1:]}",
            do="Take the indptr of a matrix [out, in] in compressed sparse rows.",
        )
    falls = (pointer.diff() < 0).nonzero()[:, 0]
    if len(falls):
        j = int(falls[0])
        got = f"{int(pointer[j])} before {int(pointer[j + 1])} at neuron {j}"
        raise Refusal("SparseLinear.pointer", expected="numbers that never fall", got=got, do="Take a matrix's indptr.")
    outside = ((index < 0) | (index >= inputs)).nonzero()[:, 0]
    if len(outside):
        s = int(outside[0])
        raise Refusal(
            "SparseLinear.index",
            expected=f"inputs from 0 to {inputs - 1}",
            got=f"{int(index[s])} at synapse {s}",
            do="Make in_features fit, or number the neurons from 0.",
        )
    row = torch.arange(len(pointer) - 1).repeat_interleave(pointer.diff())
    wrong = ((index.diff() <= 0) & (row.diff() == 0)).nonzero()[:, 0]
    if len(wrong):
        s = int(wrong[0])
        same = bool(index[s] == index[s + 1])
        raise Refusal(
            "SparseLinear.index",
            expected="each neuron's inputs in rising order, each once",
            got=f"{int(index[s])} {'twice' if same else f'before {int(index[s + 1])}'} at neuron {int(row[s])}",
            do="Call sum_duplicates() on the scipy matrix, which adds and sorts.",
        )
