"""The recurrent loop as a matrix product and a neuron kernel for each step, on tensors that it is given: made to be captured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ranvier.compile.plan import Launcher, Plan
from ranvier.ops.recurrent_scan.step import Slot, parameters, slots, variants

Launchers = Callable[..., Launcher]


@dataclass(eq=False)
class Forward:
    """The tensors of some steps on the way forward. `currents` hold the input and become what the neurons get."""

    weight: Tensor
    values: list[Tensor]
    clock: Tensor | None
    first: Tensor
    currents: Tensor
    y: Tensor
    course: list[Tensor]

    def loop(self, plan: Plan, launchers: Launchers) -> None:
        """Go through the steps."""
        steps, one = len(self.y), self.y.shape[1:]
        given = parameters(plan, self.values, one, self.clock)
        given |= {"x": Slot(self.currents, True), "y": Slot(self.y, True)}
        for k, c in zip(plan.program.states, self.course, strict=True):
            given |= {f"initial:{k}": Slot(c, True), f"final:{k}": Slot(c, True, later=1)}
        variant, _ = variants(plan)
        launch, table = (
            launchers(plan.program, variant, False),
            slots(plan, variant, False, prod(one[1:]), one[0], given),
        )
        for t in range(steps):
            before = self.y[t - 1] if t else self.first
            _rows(self.currents[t]).addmm_(_rows(before), self.weight.t())
            launch(_at(table, t), 1, one.numel())


@dataclass(eq=False)
class Backward:
    """The tensors of some steps on the way back. `given` holds the output's gradient and becomes the whole one of it."""

    weight: Tensor
    values: list[Tensor]
    clock: Tensor | None
    currents: Tensor
    course: list[Tensor]
    given: Tensor
    records: dict[str, Tensor]
    found: Tensor
    """gradients of the currents"""
    later: Tensor
    """the gradient of the current after these steps"""
    states: list[Tensor]
    """gradients of the states after these steps, then of those before them"""
    fresh: list[Tensor]
    sums: list[Tensor]

    def loop(self, plan: Plan, launchers: Launchers, temporal: bool) -> None:
        """Go back through the steps."""
        steps, one, program = len(self.given), self.given.shape[1:], plan.program
        given = parameters(plan, self.values, one, self.clock)
        given |= {"x": Slot(self.currents, True), "gy": Slot(self.given, True), "gx": Slot(self.found, True)}
        for k, c, g in zip(program.states, self.course, self.states, strict=True):
            given |= {f"{name}:{k}": Slot(c, True) for name in ("initial", "checkpoint")}
            given |= {f"{name}:{k}": Slot(g) for name in ("gs", "ginitial")}
        given |= {f"grecord:{k}": Slot(g, True) for k, g in self.records.items()}
        given |= {f"gp:{k}": Slot(g) for k, g in zip(program.learnt, self.fresh, strict=True)}
        _, variant = variants(plan, tuple(self.records))
        launch, table = launchers(program, variant, True), slots(plan, variant, True, prod(one[1:]), one[0], given)
        for t in reversed(range(steps)):
            if temporal:
                _rows(self.given[t]).addmm_(_rows(self.found[t + 1] if t + 1 < steps else self.later), self.weight)
            launch(_at(table, t), 1, one.numel())
            if self.sums:
                torch._foreach_add_(self.sums, self.fresh)


def _at(table: Sequence[Slot | int], t: int) -> list[Tensor | int]:
    return [slot if isinstance(slot, int) else slot.at(t) for slot in table]


def _rows(t: Tensor) -> Tensor:
    return t.view(-1, t.shape[-1])
