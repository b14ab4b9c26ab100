"""The recurrent loop on a CPU: memory, and what the kernels are called with."""

import ctypes
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.buffers import empty
from ranvier.compile.build import build_llvm
from ranvier.compile.kernel import Variant
from ranvier.compile.llvm import source
from ranvier.compile.plan import Plan
from ranvier.compile.program import Program
from ranvier.ops.native import NUMBERS
from ranvier.ops.recurrent_scan import kernels
from ranvier.ops.recurrent_scan.step import Gradients, Outcome, Slot, parameters, slots, variants
from ranvier.ops.recurrent_scan.vectors import LANES

_CHUNK, _SMALL_CHUNK = 16, 4


@cache
def _built(program: Program, variant: Variant, backward: bool) -> tuple[int, Any]:
    """The address of a neuron's kernel, and what keeps the code in memory."""
    kernel = build_llvm(source(program, variant, backward))
    return ctypes.cast(kernel, ctypes.c_void_p).value or 0, kernel


def _addresses(found: Sequence[Slot | int]) -> Tensor:
    """For each argument: its first address or its number, bytes from step to step, bytes from sample to sample."""
    table = torch.zeros(len(found), 3, dtype=torch.int64)
    for row, slot in zip(table.numpy(), found, strict=True):
        if isinstance(slot, int):
            row[0] = slot
        else:
            size = slot.tensor.element_size()
            step = slot.tensor.stride(0) * size if slot.each else 0
            row[:] = slot.tensor.data_ptr() + slot.later * step, step, slot.sample * size
    return table


def crossovers(width: int) -> tuple[float, float]:
    """Densities of spikes above which products are faster than sums of rows: in a step, and in the weights' gradient.

    Measured by benchmarks/recurrent.py. They differ little with sizes and not from run to run, since both ways run at
    the speed of the same vectors; so a sequence in chunks keeps the bits of the whole.
    """
    return 0.45, 0.45 if width >= 128 else 0.35


class _Sizes:
    """How samples, rows (of what one set of weights multiplies) and features lie in x [T, B, ..., H]."""

    def __init__(self, x: Tensor) -> None:
        self.steps, self.batch, self.width = x.shape[0], x.shape[1], x.shape[-1]
        self.features = prod(x.shape[2:])
        self.rows = self.features // self.width if self.width else 0
        self.all = self.batch * self.rows
        self.samples = max(1, (_CHUNK if self.all >= 4 * _CHUNK else _SMALL_CHUNK) // max(self.rows, 1))
        self.chunks = -(-self.batch // self.samples) if self.features else 0

    def flat(self, t: Tensor) -> Tensor:
        """[T, B, ..., H] as [T, rows of all samples, H]."""
        return t.view(len(t), self.all, self.width)


def forward(
    plan: Plan,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    z: Tensor,
    values: Sequence[Tensor],
    initial: Sequence[Tensor],
    clock: Tensor | None,
    record: Sequence[str],
    keep: bool,
) -> Outcome:
    """Spikes and states of all steps, and with `keep` what backward needs."""
    sizes, number, states = _Sizes(x), plan.number, plan.program.states
    steps, one = sizes.steps, x.shape[1:]
    kept_steps = steps if keep else min(steps, 1)
    y, currents = empty(x.shape, dtype=number), empty((kept_steps, *one), dtype=number)
    course = {k: empty((steps + 1 if keep or k in record else 1, *one), dtype=number) for k in states}
    for k, s in zip(states, initial, strict=True):
        course[k][0] = s
    words = -(-sizes.width // LANES)
    bits = empty((kept_steps, sizes.all, words), dtype=torch.uint16)
    graded = empty((kept_steps, sizes.all), dtype=torch.uint8)
    active = torch.zeros(sizes.chunks, dtype=torch.int64)
    given = parameters(plan, values, one, clock)
    per = sizes.features
    given |= {"x": Slot(currents, keep, sample=per), "y": Slot(y, True, sample=per)}
    for k, c in course.items():
        given[f"initial:{k}"] = Slot(c, len(c) > 1, sample=per)
        given[f"final:{k}"] = Slot(c, len(c) > 1, later=1 if len(c) > 1 else 0, sample=per)
    variant, _ = variants(plan)
    address, _code = _built(plan.program, variant, False)
    table = _addresses(slots(plan, variant, False, per, sizes.batch, given))
    kernels.forward(NUMBERS[number])(
        sizes.chunks,
        4 * x.numel(),
        sizes.flat(x),
        weight.t().contiguous(),
        torch.zeros(sizes.width, dtype=number) if bias is None else bias,
        z.view(sizes.all, sizes.width),
        sizes.flat(currents),
        sizes.flat(y),
        bits,
        graded,
        active,
        table,
        address,
        sizes.samples,
        sizes.rows,
        per,
        crossovers(sizes.width)[0],
        int(keep),
    )
    finals = [course[k][-1].clone() for k in states]
    kept = (currents, *course.values(), bits, graded, active) if keep else ()
    return Outcome(y, finals, [course[k][1:] for k in record], kept)


def backward(
    plan: Plan,
    temporal: bool,
    weight: Tensor,
    z: Tensor,
    values: Sequence[Tensor],
    clock: Tensor | None,
    y: Tensor,
    kept: Sequence[Tensor],
    gy: Tensor | None,
    finals: Sequence[Tensor | None],
    records: dict[str, Tensor],
    weighted: bool,
) -> Gradients:
    """Gradients of the currents, the states before the first step, the parameters and, where `weighted`, the weights."""
    sizes, number, program = _Sizes(y), plan.number, plan.program
    one, per, states = y.shape[1:], sizes.features, program.states
    currents, *course, bits, graded, active = kept
    gc, incoming = empty(y.shape, dtype=number), empty(one, dtype=number)
    gs = [
        torch.zeros(one, dtype=number) if g is None else g.clone(memory_format=torch.contiguous_format) for g in finals
    ]
    fresh = empty((len(program.learnt), *one), dtype=number)
    sums = torch.zeros((len(program.learnt), *one), dtype=number)
    given = parameters(plan, values, one, clock)
    given |= {"x": Slot(currents, True, sample=per), "gy": Slot(incoming, sample=per), "gx": Slot(gc, True, sample=per)}
    for k, c, g in zip(states, course, gs, strict=True):
        given |= {f"{name}:{k}": Slot(c, True, sample=per) for name in ("initial", "checkpoint")}
        given |= {f"{name}:{k}": Slot(g, sample=per) for name in ("gs", "ginitial")}
    given |= {f"grecord:{k}": Slot(g, True, sample=per) for k, g in records.items()}
    given |= {f"gp:{k}": Slot(g, sample=per) for k, g in zip(program.learnt, fresh, strict=True)}
    _, variant = variants(plan, tuple(records))
    address, _code = _built(program, variant, True)
    table = _addresses(slots(plan, variant, True, per, sizes.batch, given))
    kernels.backward(NUMBERS[number])(
        sizes.chunks,
        4 * y.numel(),
        sizes.flat(y[:0] if gy is None else gy),
        weight.contiguous(),
        incoming.view(sizes.all, sizes.width),
        sizes.flat(gc),
        sizes.flat(fresh),
        sizes.flat(sums),
        table,
        address,
        sizes.samples,
        sizes.rows,
        per,
        int(temporal),
    )
    gw = None
    if weighted:
        gw = _weights(sizes, gc, z, y, bits, graded, int(active.sum()))
    return Gradients(gc, gs, list(sums), gw)


def _weights(sizes: _Sizes, gc: Tensor, z: Tensor, y: Tensor, bits: Tensor, graded: Tensor, active: int) -> Tensor:
    width, number = sizes.width, y.dtype
    if active > crossovers(width)[1] * y.numel():
        found = gc[1:].reshape(-1, width).t() @ y[:-1].reshape(-1, width)
        return found.addmm_(gc[:1].reshape(-1, width).t(), z.reshape(-1, width)) if len(y) else found
    found = empty((width, width), dtype=number)
    block = max(64, -(-width // (64 * torch.get_num_threads())) * 64)
    kernels.weight_gradient(NUMBERS[number])(
        -(-width // block),
        active * width // 4 + y.numel() // 16,
        gc.view(-1, width),
        z.view(sizes.all, width),
        y.view(-1, width),
        bits.view(-1, bits.shape[-1]),
        graded.view(-1),
        found,
        block,
    )
    return found.t()
