"""Courses [T, B, ...features]: what a variable was at every step."""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.plan import Equation, known_as
from ranvier.compile.program import program
from ranvier.compile.scan import scan
from ranvier.compile.symbol import Symbol, SymbolDraws
from ranvier.core.state import Stateful

Symbols = Mapping[str, Symbol]


def equation(
    key: Hashable,
    parameters: Sequence[str],
    states: Sequence[str],
    step: Callable[[Symbol, Symbols, Symbols], Sequence[Symbol]],
) -> str:
    """The name under which `scan` knows a step: x, parameters and states to the output and the new states, from 0."""

    def without_draws(x: Symbol, p: Symbols, s: Symbols, draws: SymbolDraws) -> Sequence[Symbol]:
        return step(x, p, s)

    def make() -> Equation:
        rest = (0.0,) * len(states)
        return Equation(
            tuple(parameters), tuple(states), rest, lambda learnt: program(without_draws, parameters, states, learnt)
        )

    return known_as(key, str(key), make)


class Fused(Stateful):
    """A module with equations of its own that run as kernels. They are named beforehand, where no graph is compiled."""

    @abstractmethod
    def equations(self) -> tuple[str, ...]:
        """The names of what it computes with its present options."""

    @property
    def named(self) -> tuple[str, ...]:
        """The names that `equations` last gave; the last line of a subclass's __init__ is `self.name()`."""
        names: tuple[str, ...] = self.__dict__["_named"]
        return names

    def name(self) -> None:
        """Ask for the names again."""
        self.__dict__["_named"] = self.equations()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if "_named" in self.__dict__:
            self.name()  # an option may have changed

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.name()  # they have other names in another process


def leaky_sum(u: Tensor, leak: Tensor, initial: Tensor) -> Tensor:
    """A sum that leaks, as one kernel: y[t] = (1 - leak) y[t-1] + u[t].

    It takes the leak and not the decay, because a decay near 1 rounds its leak: at 0.999 by up to 3e-5 of it.

    >>> leaky_sum(torch.ones(3, 1, 1), torch.tensor(0.5), torch.zeros(1, 1)).flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    return scan(_LEAKY_SUM, u, [leak], [initial])[0]


def _leaky_sum(u: Symbol, p: Symbols, s: Symbols) -> tuple[Symbol, Symbol]:
    y = u + (s["y"] - p["leak"] * s["y"])
    return y, y


_LEAKY_SUM = equation("leaky sum", ["leak"], ["y"], _leaky_sum)


def stacked(initial: Tensor, values: list[Tensor]) -> Tensor:
    """A course from its values, also where there are none."""
    return torch.stack(values) if values else initial.new_zeros(0, *initial.shape)


def after(course: Tensor, initial: Tensor) -> Tensor:
    """The last value of a course, in memory of its own; the initial one where there were no steps."""
    return course[-1].clone() if len(course) else initial


def unrounded(x: Tensor) -> AbstractContextManager[object]:
    """No autocast: in 16 bits a slow variable stands still, and a membrane fires at other steps."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()
