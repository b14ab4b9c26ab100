"""Plans: a program made ready for one situation, and the equations they are made for, by name."""

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from ranvier.compile.kernel import Variant, segment
from ranvier.compile.program import Program
from ranvier.core.checks import Refusal

Launcher = Callable[[Sequence[Tensor | int], int, int], None]
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Layout(NamedTuple):
    """Where the value of neuron m of M = batch * features lies in a parameter: at (m // inner) % count."""

    inner: int
    number: int


@dataclass(eq=False)
class Plan:
    """A program in one situation: dtypes, which parameters vary, what is given, recorded and learnt."""

    program: Program
    variant: Variant
    layouts: tuple[Layout | None, ...]
    launchers: dict[Hashable, Launcher] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.number: torch.dtype = getattr(torch, self.variant.number)
        """The dtype of states and parameters."""
        self.columns = [size for layout in self.layouts if layout is not None for size in layout]
        self.given = len(self.layouts)

    def forward(self, x: Tensor, values: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Output, final states and records; and with `keep` the checkpoints for backward."""
        build, empty = _device(x)
        steps, one, number, states = len(x), x.shape[1:], self.number, self.program.states
        length = segment(self.program, x)
        launch = self.launchers.get((keep, length, x.device.type))
        if launch is None:
            variant = replace(self.variant, checkpoints=keep, steps=length)
            launch = self.launchers[keep, length, x.device.type] = build(self.program, variant, False)
        y = empty(x.shape, dtype=x.dtype)
        finals = [empty(one, dtype=number) for _ in states]
        records = [empty(x.shape, dtype=number) for _ in self.variant.record]
        rows = _rows(self.program, x, length)
        checkpoints = [empty((rows, *one), dtype=number) for _ in states] if keep else []
        neurons = one.numel()
        sizes = (steps, neurons, x.stride(0), *self.columns)
        launch([*sizes, x, y, *values, *finals, *records, *checkpoints], steps, neurons)
        return [y, *finals, *records], checkpoints

    def backward(
        self,
        x: Tensor,
        values: Sequence[Tensor],
        checkpoints: Sequence[Tensor],
        grads: Sequence[Tensor | None],
        needs: Sequence[bool],
    ) -> list[Tensor | None]:
        """Gradients of x, the parameters and the initial states, from those of what forward returned."""
        build, empty = _device(x)
        steps, one, number, states = len(x), x.shape[1:], self.number, self.program.states
        gy, finals, records = grads[0], grads[1 : 1 + len(states)], grads[1 + len(states) :]
        grad_x, grad_initial, final = needs[0], any(needs[1 + self.given :]), any(g is not None for g in finals)
        recorded = tuple(g is not None for g in records)
        situation = (
            gy is not None,
            final,
            recorded,
            grad_x,
            grad_initial,
            length := segment(self.program, x),
            x.device.type,
        )
        launch = self.launchers.get(situation)
        if launch is None:
            variant = replace(
                self.variant,
                steps=length,
                spikes=gy is not None,
                final=final,
                record=tuple(k for k, there in zip(self.variant.record, recorded, strict=True) if there),
                grad_x=grad_x,
                grad_initial=grad_initial,
            )
            launch = self.launchers[situation] = build(self.program, variant, True)
        neurons = one.numel()
        sizes: list[int] = [steps, neurons, x.stride(0)]
        incoming: list[Tensor] = []
        if gy is not None:
            gy = by_rows(gy)
            sizes.append(gy.stride(0))
            incoming.append(gy)
        if final:
            zero = torch.zeros((), dtype=number, device=x.device)
            incoming += [(zero.expand(one) if g is None else g).contiguous() for g in finals]
        incoming += [g.contiguous() for g in records if g is not None]
        gx = [empty(x.shape, dtype=x.dtype)] if grad_x else []
        ginitial = [empty(one, dtype=number) for _ in states] if grad_initial else []
        gp = {k: empty(one, dtype=number) for k in self.program.learnt}
        arguments: list[Tensor | int] = [
            *sizes,
            *self.columns,
            x,
            *values,
            *checkpoints,
            *incoming,
            *gx,
            *ginitial,
            *gp.values(),
        ]
        launch(arguments, steps, neurons)
        found: list[Tensor | None] = [gx[0] if grad_x else None]
        for name, value, layout in zip(self.program.parameters, values, self.layouts, strict=False):
            found.append(summed(gp[name], layout).reshape(value.shape) if name in gp else None)
        if self.variant.initial:
            found += ginitial or [None] * len(states)
        return found


def summed(g: Tensor, layout: Layout | None) -> Tensor:
    """The gradient of a parameter from that of each neuron."""
    return g.sum() if layout is None else g.reshape(-1, layout.number, layout.inner).sum((0, 2))


@dataclass(eq=False)
class Equation:
    """A neuron's step with its options, and the plans made for it so far."""

    parameters: tuple[str, ...]
    states: tuple[str, ...]
    rest: tuple[float, ...]
    trace: Callable[[tuple[str, ...]], Program]
    """The program, given which parameters are learnt."""
    plans: dict[Hashable, Plan] = field(default_factory=dict)
    programs: dict[tuple[str, ...], Program] = field(default_factory=dict)

    def program(self, learnt: tuple[str, ...]) -> Program:
        """The program with these parameters learnt; traced once, whatever the sizes."""
        if learnt not in self.programs:
            self.programs[learnt] = self.trace(learnt)
        return self.programs[learnt]

    def checkpoints(self, x: Tensor, learnt: Sequence[bool]) -> int:
        """How often the states are kept on the way through x."""
        program = self.program(self.names(learnt))
        return _rows(program, x, segment(program, x))

    def names(self, learnt: Sequence[bool]) -> tuple[str, ...]:
        """The parameters that are learnt."""
        return tuple(k for k, wanted in zip(self.parameters, learnt, strict=False) if wanted)


def _rows(program: Program, x: Tensor, length: int) -> int:
    return max(-(-x.shape[0] // length) - 1, 0) if program.kept else 0


def by_rows(x: Tensor) -> Tensor:
    """x itself where each time step is contiguous, whatever the stride from one to the next (0 for a repeated step)."""
    return x if x.is_contiguous() or (len(x) and x[0].is_contiguous()) else x.contiguous()


def step_order(x: Tensor) -> tuple[int, ...] | None:
    """The axes of a step x[t] as they lie in memory, the outermost first; None where that is their own order, or there are gaps.

    A neuron does not see its neighbours, so channels last are as good as channels first, and stay what they are.
    """
    if x.ndim < 3 or x.is_contiguous() or not x.numel():
        return None
    sizes, strides = x.shape[1:], x.stride()[1:]
    order = tuple(sorted(range(len(sizes)), key=lambda i: -strides[i]))
    inner = 1
    for i in reversed(order):
        if sizes[i] != 1 and strides[i] != inner:
            return None
        inner *= sizes[i]
    moved = [i for i in order if sizes[i] != 1]
    return None if moved == sorted(moved) else order


def reordered(
    order: tuple[int, ...], x: Tensor, values: Sequence[Tensor], initial: Sequence[Tensor] | None
) -> tuple[Tensor, list[Tensor], list[Tensor] | None]:
    """Views of the input, the parameters and the initial states with the axes of a step in another order."""
    own = [
        v if v.numel() == 1 else v.reshape((1,) * (len(order) - v.ndim) + tuple(v.shape)).permute(order) for v in values
    ]
    states = None if initial is None else [s.permute(order) if s.ndim == len(order) else s for s in initial]
    return x.permute(0, *(1 + i for i in order)), own, states


def restored(order: tuple[int, ...], outputs: Sequence[Tensor], records: int) -> list[Tensor]:
    """Output, final states and `records` records with the axes in their own order again."""
    back = [order.index(i) for i in range(len(order))]
    timed, first = [0, *(1 + i for i in back)], len(outputs) - records
    return [o.permute(timed if k == 0 or k >= first else back) for k, o in enumerate(outputs)]


def _device(x: Tensor) -> tuple[Callable[[Program, Variant, bool], Launcher], Callable[..., Tensor]]:
    if x.device.type == "cpu" and not _interpreting():
        from ranvier.compile import cpu

        return cpu.launcher, cpu.empty
    if x.device.type in ("cuda", "cpu"):
        from ranvier.compile import gpu

        return gpu.launcher, partial(torch.empty, device=x.device)
    raise Refusal(
        "fused neurons",
        expected="a tensor on a CPU or a CUDA GPU",
        got=f"one on {x.device}",
        do="Choose ranvier.backend('reference').",
    )


_INTERPRET = os.environ.get("TRITON_INTERPRET") == "1"


def _interpreting() -> bool:
    """Whether Triton's interpreter stands in for a GPU, as the tests have it."""
    return _INTERPRET


equations: dict[str, Equation] = {}
_names: dict[Hashable, str] = {}
_numbers = count()


def known_as(key: Hashable, label: str, make: Callable[[], Equation]) -> str:
    """The name in `equations` of what `key` stands for; made when it is new.

    A name, because that is what can pass through a compiled graph.
    """
    if key not in _names:
        name = f"{label} {next(_numbers)}"  # never given twice, also not to two threads at once
        equations[name] = make()
        _names.setdefault(key, name)
    return _names[key]


def prepared(
    equation: str,
    x: Tensor,
    values: Sequence[Tensor],
    initial: Sequence[Tensor] | None,
    record: tuple[str, ...],
    draws: tuple[Tensor, Tensor] | None,
    learnt: tuple[bool, ...],
) -> tuple["Plan", Tensor, list[Tensor]]:
    """The plan for what is given, and what is given as kernels take it."""
    known = equations[equation]
    situation = (x.dtype, x.shape[1:], initial is None, record, learnt, tuple([v.shape for v in values]))
    plan = known.plans.get(situation)
    if plan is None:
        plan = known.plans[situation] = _plan(known, x, values, initial is not None, record, draws, learnt)
    number = plan.number
    _refuse_elsewhere(x, number, known.parameters, values, initial or ())
    x = by_rows(x)
    given = [_laid_out(v, layout, x, number) for v, layout in zip(values, plan.layouts, strict=False)]
    if draws is not None:
        given += [word for word, _ in _random(*draws, x, number)]
    if initial is not None:
        given += [s.contiguous() for s in initial]
    return plan, x, given


def _plan(
    equation: Equation,
    x: Tensor,
    values: Sequence[Tensor],
    initial: bool,
    record: tuple[str, ...],
    draws: tuple[Tensor, Tensor] | None,
    learnt: tuple[bool, ...],
) -> Plan:
    if x.dtype not in _DTYPES:
        raise Refusal("fused neurons", expected=f"one of {_DTYPES}", got=str(x.dtype), do="Convert the input.")
    program = equation.program(equation.names(learnt))
    layouts = [_layout(v.shape, x.shape[1:]) for v in values]
    number = torch.float64 if x.dtype == torch.float64 else torch.float32
    if draws is not None:
        layouts += [layout for _, layout in _random(*draws, x, number)]
    columns = frozenset(k for k, layout in zip(program.parameters, layouts, strict=True) if layout is not None)
    io = str(x.dtype).removeprefix("torch.")
    variant = Variant(io, 0, columns, equation.rest, initial=initial, record=record)
    return Plan(program, variant, tuple(layouts))


def _refuse_elsewhere(
    x: Tensor, number: torch.dtype, names: Sequence[str], values: Sequence[Tensor], initial: Sequence[Tensor]
) -> None:
    # a kernel gets addresses: what lies elsewhere, or is smaller than it should be, would be read past its end
    for name, p in zip(names, values, strict=True):
        if p.device != x.device:
            raise Refusal(
                f"parameter {name!r}",
                expected=f"{x.device}, where the input is",
                got=str(p.device),
                do="Move the model, as in model.to(x.device).",
            )
    for state in initial:
        if (state.shape, state.dtype, state.device) != (x.shape[1:], number, x.device):
            raise Refusal(
                "state",
                expected=f"{tuple(x.shape[1:])} {number} on {x.device}",
                got=f"{tuple(state.shape)} {state.dtype} on {state.device}",
                do="Continue with the same batch size, dtype and device, or start at rest.",
            )


def _random(seed: Tensor, step: Tensor, x: Tensor, number: torch.dtype) -> list[tuple[Tensor, Layout]]:
    """The words of RANDOM: as bits in the place of float32, as numbers in the place of float64."""
    batch, features = x.shape[1], prod(x.shape[2:])
    element = torch.arange(features, device=x.device)
    words = [
        (element, Layout(1, features)),
        *((w, Layout(features, batch)) for w in (seed & 0xFFFFFFFF, seed >> 32, step & 0xFFFFFFFF)),
    ]
    if number == torch.float64:
        return [(word.to(number), layout) for word, layout in words]
    return [((word - ((word >> 31) << 32)).to(torch.int32).view(number), layout) for word, layout in words]


def _own_axes(shape: Sequence[int], sizes: Sequence[int]) -> tuple[int, int] | None:
    """The first and the last axis of the neurons [B, ...features] along which a parameter differs; None for nowhere."""
    own = [len(sizes) - len(shape) + i for i, size in enumerate(shape) if size != 1]
    return (own[0], own[-1]) if own and prod(shape) != 1 else None


def _layout(shape: Sequence[int], sizes: Sequence[int]) -> Layout | None:
    """Where each neuron's value lies in a parameter of this shape; None when all share one."""
    axes = _own_axes(shape, sizes)
    return axes and Layout(prod(sizes[axes[1] + 1 :]), prod(sizes[axes[0] : axes[1] + 1]))


def _laid_out(value: Tensor, layout: Layout | None, x: Tensor, number: torch.dtype) -> Tensor:
    """A parameter in the kernel's dtype, as many values in a row as its layout says."""
    if value.dtype != number:
        value = value.to(number)
    if layout is None:
        return value
    if value.numel() != layout.number:  # it repeats in the middle
        sizes = x.shape[1:]
        first, last = _own_axes(value.shape, sizes) or (0, 0)
        axes = range(len(sizes) - value.ndim, len(sizes))
        value = value.expand([sizes[i] if first <= i <= last else 1 for i in axes])
    return value if value.is_contiguous() else value.contiguous()
