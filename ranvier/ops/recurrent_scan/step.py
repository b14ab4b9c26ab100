"""One step of a neuron as its kernels take it: which tensor, or which row of it, each argument is at step t."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor

from ranvier.compile.kernel import Variant, arguments, is_size
from ranvier.compile.plan import Plan


@dataclass(frozen=True)
class Slot:
    """An argument: a tensor, of which a step takes the row `later` steps on where it has a row for each."""

    tensor: Tensor
    each: bool = False
    later: int = 0
    sample: int = 0
    """Numbers of a row that belong to one sample; 0 where all samples read the same ones."""

    def at(self, t: int) -> Tensor:
        """What step t takes."""
        return self.tensor[t + self.later] if self.each else self.tensor


def variants(plan: Plan, recorded: Sequence[str] = ()) -> tuple[Variant, Variant]:
    """What a step's kernels, forward and backward, are made for."""
    one = replace(plan.variant, steps=1, initial=True, record=())
    return one, replace(one, record=tuple(recorded), final=True, grad_initial=True)


def slots(
    plan: Plan, variant: Variant, backward: bool, features: int, batch: int, given: Mapping[str, Slot]
) -> list[Slot | int]:
    """A kernel's arguments in their order; `given` holds those that are not sizes, by name."""
    found: list[Slot | int] = []
    sizes = iter(plan.columns)
    for name in arguments(plan.program, variant, backward):
        if not is_size(name):
            found.append(given[name])
        elif name in ("T", "M"):
            found.append(1 if name == "T" else batch * features)
        else:
            found.append(0 if name.startswith("stride") else next(sizes))
    return found


def parameters(
    plan: Plan, values: Sequence[Tensor], shape: Sequence[int], clock: Tensor | None = None
) -> dict[str, Slot]:
    """The neuron's parameters as arguments. `clock` [T, ...] is the last of them where it differs from step to step."""
    features, batch, found = prod(shape[1:]), shape[0], {}
    for k, value, layout in zip(plan.program.parameters, values, plan.layouts, strict=True):
        every = layout is not None and batch > 1 and layout.inner * layout.number == batch * features
        found[f"p:{k}"] = Slot(value, sample=features // layout.inner if layout is not None and every else 0)
    if clock is not None:
        last = f"p:{plan.program.parameters[-1]}"
        found[last] = Slot(clock, each=True, sample=found[last].sample)
    return found


@dataclass(frozen=True)
class Outcome:
    """What the way through the steps gives: spikes, final states, the states asked for, and what backward needs."""

    y: Tensor
    finals: list[Tensor]
    records: list[Tensor]
    kept: tuple[Tensor, ...]


@dataclass(frozen=True)
class Gradients:
    """What the way back gives; those of parameters are one number for each neuron, in the order of `learnt`."""

    currents: Tensor
    initial: list[Tensor]
    parameters: list[Tensor]
    weight: Tensor | None
