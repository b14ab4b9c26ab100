"""A model on its way into the engine: operations, the arrays they work on, and the signals between them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.llvm_operations import LANES
from ranvier.compile.program import Program as Step
from ranvier.deploy.engine import kernels as k


@dataclass(frozen=True)
class At:
    """The address of an array of the program."""

    number: int


Word = int | At


@dataclass
class Signal:
    """What flows between two layers: its shape in the model, and where each number of it lies here (`order`)."""

    shape: tuple[int, ...]
    order: np.ndarray
    value: At
    index: At
    mark: At
    listed: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def words(self) -> tuple[Word, ...]:
        return self.value, self.index, self.mark, self.size


@dataclass(frozen=True)
class Stepping:
    """What a NEURON operation computes, for printers: the step, and where its input, states, fixed values and output lie."""

    step: Step
    x: At
    states: tuple[At, ...]
    fixed: tuple[At, ...]
    y: Signal


@dataclass
class Lowered:
    """Operations and the arrays they work on; `changing` ones are each run's own, and `states` outlive a step."""

    ops: list[list[Word]] = field(default_factory=list)
    arrays: list[np.ndarray | list[Word]] = field(default_factory=list)
    changing: set[int] = field(default_factory=set)
    states: dict[str, int] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    neurons: list[Stepping] = field(default_factory=list)
    """One for each NEURON operation, in their order."""
    skip: bool = True
    """Let neurons rest in silence where their step allows it."""
    every: int = 1
    """How many steps of input one step of output takes."""

    def fixed(self, array: np.ndarray) -> At:
        self.arrays.append(np.ascontiguousarray(array))
        return At(len(self.arrays) - 1)

    def memory(self, array: np.ndarray | list[Word], state: str = "") -> At:
        """An array of each run's own; with a name its content goes from one step to the next."""
        self.arrays.append(array)
        number = len(self.arrays) - 1
        self.changing.add(number)
        if state:
            self.states[state] = number
        return At(number)

    def signal(
        self, shape: Sequence[int], order: np.ndarray | None = None, listed: bool = True, state: str = ""
    ) -> Signal:
        size = prod(shape)
        value = self.memory(np.zeros(size, np.float32), f"{state}.value" if state else "")
        index = self.memory(np.zeros(size + LANES, np.int32), f"{state}.index" if state else "")
        mark = self.memory(np.array([0, 1], np.int64), f"{state}.mark" if state else "")
        places = np.arange(size, dtype=np.int32) if order is None else order
        return Signal(tuple(shape), places, value, index, mark, listed)

    def op(self, code: int, *words: Word) -> None:
        self.ops.append([code, *words, *[0] * (k.FIELDS - 1 - len(words))])

    def active(self, s: Signal) -> Signal:
        """The signal with its active ones listed."""
        if not s.listed:
            self.op(k.LIST, *s.words)
            s.listed = True
        return s

    def moved(self, s: Signal, order: np.ndarray, factors: np.ndarray | None = None) -> Signal:
        """The signal with its numbers in other places, and times factors [size] in the model's order."""
        self.active(s)
        out = self.signal(s.shape, order)
        if factors is None and len(self.ops) == 1:  # what comes in can be put there at once
            self.ops[0][5] = self.fixed(order)
            return Signal(s.shape, order, s.value, s.index, s.mark, s.listed)
        places = np.empty(s.size, np.int32)
        places[s.order] = order
        own = np.ones(s.size, np.float32)
        if factors is not None:
            own[s.order] = factors
        self.op(k.RELABEL, *s.words, self.fixed(places), self.fixed(own), out.value, out.index, out.mark)
        return out

    def by_place(self, s: Signal) -> Signal:
        """The signal [C, *space] with the channels of each place side by side."""
        order = channels_last(s.shape)
        return s if np.array_equal(order, s.order) else self.moved(s, order)


def channels_last(shape: Sequence[int]) -> np.ndarray:
    """Where each number of [C, *space] lies when channels change fastest."""
    c, places = shape[0], prod(shape[1:])
    return (np.arange(places)[None, :] * c + np.arange(c)[:, None]).reshape(-1).astype(np.int32)


def numbers(tensor: Tensor) -> np.ndarray:
    """A tensor as the engine's numbers."""
    return tensor.detach().to("cpu", torch.float32).numpy()
