"""A sequence of spikes as the places of its events, which no dense tensor is written for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ranvier.core.checks import Refusal
from ranvier.ops.spike_pack import grouped, indices, on_cpu, pack


@dataclass(frozen=True, eq=False)
class Spikes:
    """A sequence [T, B, I] as events: of step t and sample b those at `index[pointer[t B + b] : pointer[t B + b + 1]]`.

    x[t, b, i] = number of times that i stands there, or the sum of its values where there are some.

    What takes it is `SpikeLinear`; a slice of it is one of time. Input: pointer [T B + 1] and index [events].
    Raises: Refusal for a pointer that does not fit the shape or falls, for an index outside 0 ... I - 1.

    >>> x = Spikes.from_events(step=[0, 1, 1], sample=[0, 0, 0], feature=[2, 0, 0], shape=(2, 1, 3))
    >>> x.dense().tolist(), x.density
    ([[[0.0, 0.0, 1.0]], [[2.0, 0.0, 0.0]]], 0.5)
    """

    pointer: Tensor
    """[T B + 1] int64"""
    index: Tensor
    """[events] int32"""
    shape: torch.Size
    """T, B and I"""
    values: Tensor | None = None
    """[events], where an event counts other than once"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", torch.Size(self.shape))
        object.__setattr__(self, "pointer", torch.as_tensor(self.pointer, dtype=torch.int64).contiguous())
        object.__setattr__(self, "index", torch.as_tensor(self.index, dtype=torch.int32).contiguous())
        if len(self.shape) != 3 or min(self.shape) < 0:
            raise Refusal("Spikes", expected="shape (T, B, I)", got=str(tuple(self.shape)), do="Flatten the features.")
        rows, pointer = self.shape[0] * self.shape[1], self.pointer
        if (
            pointer.shape != (rows + 1,)
            or pointer[0] != 0
            or pointer[-1] != len(self.index)
            or (pointer.diff() < 0).any()
        ):
            raise Refusal(
                "Spikes.pointer",
                expected=f"{rows + 1} numbers from 0 up to the {len(self.index)} events",
                got=f"{len(pointer)} numbers" + (f" from {pointer[0]} to {pointer[-1]}" if len(pointer) else ""),
                do="Build it with Spikes.from_events or Spikes.from_dense.",
            )
        if self.values is not None and self.values.shape != self.index.shape:
            got = f"shape {tuple(self.values.shape)}"
            raise Refusal(
                "Spikes.values", expected=f"{len(self.index)} of them", got=got, do="Give one for each event."
            )
        if len(self.index):
            low, high = map(int, self.index.aminmax())
            _refuse_outside("index", low, high, self.shape[2])

    @classmethod
    def from_events(cls, step: Any, sample: Any, feature: Any, shape: Sequence[int]) -> "Spikes":
        """Events in any order, each at its step, sample and feature: arrays or tensors of whole numbers [events]."""
        steps, batch, features = shape
        columns = [torch.as_tensor(c) for c in (step, sample, feature)]
        for name, column, size in zip(("step", "sample", "feature"), columns, shape, strict=True):
            if column.is_floating_point() or column.shape != columns[0].shape or column.ndim != 1:
                got = f"{column.dtype} of shape {tuple(column.shape)}"
                raise Refusal(f"events {name}", expected="whole numbers [events]", got=got, do="Give one for each.")
            if len(column):
                low, high = map(int, column.aminmax())
                _refuse_outside(name, low, high, size)
        row = columns[0].to(torch.int64) * batch + columns[1]
        pointer, index = grouped(row, columns[2].to(torch.int32), steps * batch)
        return cls(pointer, index, torch.Size((steps, batch, features)))

    @classmethod
    def from_dense(cls, x: Tensor) -> "Spikes":
        """The events of a dense x [T, B, I]; values that are not 1 are kept."""
        if x.ndim != 3 or not x.is_floating_point():
            got = f"{x.dtype} of shape {tuple(x.shape)}"
            raise Refusal(
                "Spikes", expected="floating-point [T, B, I], time first", got=got, do="Flatten the features."
            )
        if not on_cpu(x) or not x.numel():
            place = x.detach().reshape(-1, x.shape[2]).nonzero()
            pointer = functional.pad((x != 0).sum(2).view(-1).cumsum(0), (1, 0))
            values = x.detach()[x != 0]
            return cls(pointer, place[:, 1], x.shape, None if bool((values == 1).all()) else values)
        packed, binary = pack(x, x.shape[2])
        pointer, index = indices(packed)
        return cls(pointer, index, x.shape, None if binary else x.detach()[x != 0])

    def dense(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor [T, B, I]."""
        steps, batch, features = self.shape
        rows = torch.arange(steps * batch, device=self.device).repeat_interleave(self.pointer.diff())
        flat = torch.zeros(steps * batch * features, dtype=dtype, device=self.device)
        values = torch.ones((), dtype=dtype, device=self.device) if self.values is None else self.values.to(dtype)
        return flat.index_put_((rows * features + self.index,), values, accumulate=True).view(self.shape)

    @property
    def density(self) -> float:
        """Events for each place."""
        return len(self.index) / max(self.shape.numel(), 1)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.index.device

    @property
    def ndim(self) -> int:
        """3, as of the tensor that it stands for."""
        return 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, steps: slice) -> "Spikes":
        """Some steps on end, as `x[10:20]`."""
        if not isinstance(steps, slice) or steps.step not in (None, 1):
            raise Refusal("Spikes", expected="a slice of steps without gaps", got=repr(steps), do="Write x[low:high].")
        low, high, _ = steps.indices(self.shape[0])
        high = max(low, high)
        pointer = self.pointer[low * self.shape[1] : high * self.shape[1] + 1]
        events = slice(int(pointer[0]), int(pointer[-1]))
        values = None if self.values is None else self.values[events]
        shape = torch.Size((high - low, *self.shape[1:]))
        return Spikes(pointer - pointer[0], self.index[events], shape, values)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Spikes":
        """The same on another device."""
        values = None if self.values is None else self.values.to(device, non_blocking=non_blocking)
        pointer = self.pointer.to(device, non_blocking=non_blocking)
        return replace(self, pointer=pointer, index=self.index.to(device, non_blocking=non_blocking), values=values)

    def pin_memory(self) -> "Spikes":
        """The same in memory from which a GPU copies faster."""
        values = None if self.values is None else self.values.pin_memory()
        return replace(self, pointer=self.pointer.pin_memory(), index=self.index.pin_memory(), values=values)


def _refuse_outside(name: str, low: int, high: int, size: int) -> None:
    if low < 0 or high >= size:
        raise Refusal(
            f"Spikes {name}", expected=f"from 0 to {size - 1}", got=f"{low} to {high}", do="Give the true shape."
        )
