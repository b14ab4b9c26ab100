"""The recurrent loop on a GPU: some steps at a time are one CUDA graph, captured once for each situation and replayed.

A graph has tensors of its own: what a run brings is copied in, what it finds is copied out. Its number of steps is a power of
two, so that a few graphs serve every length.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ranvier.compile import cpu
from ranvier.compile import gpu as triton_kernels
from ranvier.compile.plan import Plan
from ranvier.ops.recurrent_scan.loop import Backward, Forward, Launchers
from ranvier.ops.recurrent_scan.step import Gradients, Outcome

LONGEST, LARGEST = 64, 1 << 26
"""Steps of the longest graph, and bytes of the largest of its tensors."""
_KEPT = 32
"""Graphs kept; the one used longest ago goes first."""

Replay = Callable[[], None]


@dataclass(eq=False)
class _Graphs:
    """Graphs and their tensors by situation. One run at a time has them all, since they also share cuBLAS's memory."""

    lock: Any = field(default_factory=threading.Lock)
    kept: "OrderedDict[Hashable, tuple[Any, Replay]]" = field(default_factory=OrderedDict)
    free: dict[torch.device, Any] = field(default_factory=dict)
    """On each GPU, when the last run was done with them: another stream has to wait for it."""

    def get(self, key: Hashable, room: Callable[[], Any], loop: Callable[[Any], None]) -> tuple[Any, Replay]:
        found = self.kept.get(key)
        if found is None:
            made = room()
            found = self.kept[key] = made, capture(partial(loop, made))
            while len(self.kept) > _KEPT:
                self.kept.popitem(last=False)
        self.kept.move_to_end(key)
        return found

    @contextmanager
    def run(self, x: Tensor) -> Iterator[None]:
        """Inside, they belong to one run, on the current stream of x's GPU, which is the current one."""
        if not x.is_cuda:
            yield
            return
        with self.lock, torch.cuda.device(x.device):
            stream = torch.cuda.current_stream()
            if x.device in self.free:
                stream.wait_event(self.free[x.device])
            yield
            self.free[x.device] = stream.record_event()


_graphs = _Graphs()


def capture(loop: Callable[[], None]) -> Replay:
    """What does again on the GPU all that the loop does. It runs once before, by which all its kernels are loaded."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loop()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        loop()
    replay: Replay = graph.replay
    return replay


def captures(x: Tensor) -> bool:
    """Whether graphs can be used for x: not on a CPU, and not where another capture takes down what is done."""
    return x.is_cuda and not torch.cuda.is_current_stream_capturing()


def _launchers(x: Tensor) -> Launchers:
    if x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1":
        return triton_kernels.launcher
    return cpu.launcher


def portions(steps: int, size: int = 1) -> Iterator[tuple[int, int]]:
    """The steps, of `size` bytes each, in runs of powers of two: where each begins and how long it is.

    >>> list(portions(150))
    [(0, 64), (64, 64), (128, 16), (144, 4), (148, 2)]
    """
    longest = min(LONGEST, 1 << max(LARGEST // size, 1).bit_length() - 1)
    begin = 0
    while begin < steps:
        length = min(longest, 1 << (steps - begin).bit_length() - 1)
        yield begin, length
        begin += length


def _precision() -> str:
    return torch.get_float32_matmul_precision()


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
    steps, states, launchers = len(x), plan.program.states, _launchers(x)
    graphs = captures(x) and x.numel() > 0
    y = torch.empty_like(x)
    whole = keep or not graphs
    currents = torch.empty_like(x) if whole else None
    course = [x.new_empty((steps + 1, *x.shape[1:])) if whole or k in record else None for k in states]
    finals = list(initial)
    if not graphs:
        assert currents is not None
        torch.add(x, 0.0 if bias is None else bias, out=currents)
        rows = [c for c in course if c is not None]
        for c, s in zip(rows, initial, strict=True):
            c[0] = s
        Forward(weight, list(values), clock, z, currents, y, rows).loop(plan, launchers)
        finals = [c[-1] for c in rows]
    else:
        with _graphs.run(x):
            for begin, length in portions(steps, x[0].numel() * x.element_size()):
                end = begin + length
                key = ("forward", plan, x.shape[1:], length, x.device, _precision())
                make = partial(_room_forward, length, x, weight, values, clock, initial)
                room, replay = _graphs.get(key, make, lambda room: room.loop(plan, launchers))
                _bring(room.weight, weight, room.values, values, room.clock, clock, begin, end)
                room.first.copy_(y[begin - 1] if begin else z)
                torch.add(x[begin:end], 0.0 if bias is None else bias, out=room.currents)
                for c, s in zip(room.course, finals, strict=True):
                    c[0] = s
                replay()
                y[begin:end] = room.y
                if currents is not None:
                    currents[begin:end] = room.currents
                for into, c in zip(course, room.course, strict=True):
                    if into is not None:
                        into[begin : end + 1] = c
                finals = [c[-1].clone() for c in room.course]
    kept = (currents, *course) if keep else ()
    named = dict(zip(states, course, strict=True))
    return Outcome(y, [f.clone() for f in finals], [named[k][1:] for k in record], kept)  # type: ignore[index, arg-type]


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
    steps, one, launchers, learnt = len(y), y.shape[1:], _launchers(y), plan.program.learnt
    currents, *course = kept
    gc, later = torch.empty_like(y), y.new_zeros(one)
    gs = [y.new_zeros(one) if g is None else g.clone(memory_format=torch.contiguous_format) for g in finals]
    sums = [y.new_zeros(one) for _ in learnt]
    if not captures(y) or not y.numel():
        given = torch.zeros_like(y) if gy is None else gy.clone()
        fresh = [torch.empty_like(s) for s in sums]
        all_steps = Backward(weight, list(values), clock, currents, course, given, records, gc, later, gs, fresh, sums)
        all_steps.loop(plan, launchers, temporal)
    else:
        with _graphs.run(y):
            for begin, length in reversed(list(portions(steps, y[0].numel() * y.element_size()))):
                end = begin + length
                key = ("backward", plan, temporal, tuple(records), one, length, y.device, _precision())
                make = partial(_room_backward, length, y, weight, values, clock, course, records, sums)
                room, replay = _graphs.get(key, make, lambda room: room.loop(plan, launchers, temporal))
                _bring(room.weight, weight, room.values, values, room.clock, clock, begin, end)
                room.later.copy_(later)
                room.currents.copy_(currents[begin:end])
                room.given.zero_() if gy is None else room.given.copy_(gy[begin:end])
                for into, c in zip(room.course, course, strict=True):
                    into.copy_(c[begin : end + 1])
                for k, g in records.items():
                    room.records[k].copy_(g[begin:end])
                for into, g in zip([*room.states, *room.sums], [*gs, *sums], strict=True):
                    into.copy_(g)
                replay()
                gc[begin:end] = room.found
                for into, g in zip([*gs, *sums], [*room.states, *room.sums], strict=True):
                    into.copy_(g)
                later = gc[begin]
    return Gradients(gc, gs, sums, _weights(gc, z, y) if weighted else None)


def _weights(gc: Tensor, z: Tensor, y: Tensor) -> Tensor:
    width = y.shape[-1]
    if not len(y):
        return y.new_zeros(width, width)
    found = gc[1:].reshape(-1, width).t() @ y[:-1].reshape(-1, width)
    return found.addmm_(gc[0].reshape(-1, width).t(), z.reshape(-1, width))


def _room_forward(
    length: int, x: Tensor, weight: Tensor, values: Sequence[Tensor], clock: Tensor | None, initial: Sequence[Tensor]
) -> Forward:
    one = x.shape[1:]
    return Forward(
        weight.clone(),
        [v.clone() for v in values],
        None if clock is None else clock[:length].clone(),
        x.new_zeros(one),
        x.new_zeros((length, *one)),
        x.new_zeros((length, *one)),
        [x.new_zeros((length + 1, *one)) for _ in initial],
    )


def _room_backward(
    length: int,
    y: Tensor,
    weight: Tensor,
    values: Sequence[Tensor],
    clock: Tensor | None,
    course: Sequence[Tensor],
    records: dict[str, Tensor],
    sums: Sequence[Tensor],
) -> Backward:
    one = y.shape[1:]
    return Backward(
        weight.clone(),
        [v.clone() for v in values],
        None if clock is None else clock[:length].clone(),
        y.new_zeros((length, *one)),
        [y.new_zeros((length + 1, *one)) for _ in course],
        y.new_zeros((length, *one)),
        {k: y.new_zeros((length, *one)) for k in records},
        y.new_zeros((length, *one)),
        y.new_zeros(one),
        [y.new_zeros(one) for _ in course],
        [y.new_zeros(one) for _ in sums],
        [y.new_zeros(one) for _ in sums],
    )


def _bring(
    weight: Tensor,
    new_weight: Tensor,
    values: Sequence[Tensor],
    new_values: Sequence[Tensor],
    clock: Tensor | None,
    new_clock: Tensor | None,
    begin: int,
    end: int,
) -> None:
    weight.copy_(new_weight)
    for into, value in zip(values, new_values, strict=True):
        into.copy_(value)
    if clock is not None and new_clock is not None:
        clock.copy_(new_clock[begin:end])
