"""Synaptic operations, counted from the inputs that the layers of a network really get.

The convention is NeuroBench's: biases are left out, padding is left out, an operation is effective where neither input
nor weight is 0, and a layer accumulates (AC) instead of multiplying (MAC) if every input it got was -1, 0 or 1.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Synapses = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

_VALUES = ("0, 1", "-1, 0, 1", "real")
_aten = torch.ops.aten
# what torch's own counter takes for a matrix product, and what it overlooks
_PRODUCTS = {
    *flop_registry,
    *(_aten.mv, _aten.addmv, _aten.dot, _aten.addbmm, _aten._scaled_dot_product_flash_attention_for_cpu),
}


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates of one layer for one sample, the mean over the samples counted."""

    dense: float
    """if all inputs and weights were other than 0"""
    effective: float
    """those where input and weight are other than 0"""
    values: str
    """what the layer's inputs were: "0, 1", "-1, 0, 1" or "real" """

    @property
    def kind(self) -> str:
        """AC where the input is spikes, so that only additions are left; MAC otherwise."""
        return "MAC" if self.values == "real" else "AC"


def count(layer: Synapses, x: Tensor) -> tuple[int, int]:
    """Dense and effective multiply-accumulates of one call of `layer` on `x`.

    >>> layer = nn.Linear(3, 4)
    >>> count(layer, torch.tensor([[[0.0, 1.0, 0.0]]]))
    (12, 4)
    """
    # Operations are linear in the mask of active inputs, so the mask is summed over time and batch first.
    # float64 holds every integer up to 2**53.
    weight = (layer.weight.detach() != 0).double().cpu()
    samples = x.reshape(-1, *x.shape[x.ndim - weight.ndim + 1 :])
    active = (samples != 0).sum(0, keepdim=True).double().cpu()
    everywhere = torch.full_like(active, len(samples))
    if isinstance(layer, nn.Linear):
        return samples.numel() * layer.out_features, round(float((active @ weight.T).sum()))
    dense = layer._conv_forward(everywhere, torch.ones_like(weight), None)
    return round(float(dense.sum())), round(float(layer._conv_forward(active, weight, None).sum()))


class _Tally:
    def __init__(self) -> None:
        self.dense = self.effective = self.values = 0

    def add(self, layer: Synapses, x: Tensor) -> None:
        dense, effective = count(layer, x)
        self.dense, self.effective = self.dense + dense, self.effective + effective
        unsigned, signed = ((x == 0) | (x == 1)).all(), ((x == 0) | (x.abs() == 1)).all()
        self.values = max(self.values, 0 if unsigned else 1 if signed else 2)


class Counting:
    """While it is open, every call of a Linear or Conv in `model` is counted, and other matrix products are noted."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.others: dict[str, Counter[str]] = {}
        """Matrix products outside those layers, by the module that made them."""
        self._tallies: dict[str, _Tally] = {}
        self._inside: list[tuple[str, nn.Module]] = []
        self._open = ExitStack()

    def operations(self, name: str, samples: int) -> Operations | None:
        """What the layer called `name` did per sample; None if it never ran or is no Linear or Conv."""
        if name not in self._tallies:
            return None
        tally = self._tallies[name]
        return Operations(tally.dense / samples, tally.effective / samples, _VALUES[tally.values])

    def __enter__(self) -> Self:
        for name, module in self.model.named_modules():
            self._open.callback(module.register_forward_pre_hook(self._before(name)).remove)
            self._open.callback(module.register_forward_hook(self._after(name)).remove)
        self._open.enter_context(_Products(self._note))
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def _in_synapses(self) -> bool:
        return any(isinstance(module, Synapses) for _, module in self._inside)

    def _note(self, product: str) -> None:
        if not self._in_synapses():
            name = self._inside[-1][0] if self._inside else ""
            self.others.setdefault(name, Counter())[product] += 1

    def _before(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._inside.append((name, module))

        return enter

    def _after(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, Synapses):  # still inside, so that counting does not see itself
                self._tallies.setdefault(name, _Tally()).add(module, inputs[0])
            self._inside.pop()

        return leave


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.note = note

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket in _PRODUCTS:
            self.note(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))
