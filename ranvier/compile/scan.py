"""The time loop of a program as one differentiable operation, on the device where its input is."""

import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ranvier.compile.kernel import Variant, segment
from ranvier.compile.program import Program
from ranvier.compile.symbol import RANDOM
from ranvier.core.checks import Refusal, nearest

Backend = Literal["fused", "reference"]
_backend: ContextVar[Backend] = ContextVar("ranvier backend", default="fused")
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@contextmanager
def backend(name: Backend) -> Iterator[None]:
    """Inside, neurons run as generated kernels ("fused", the default) or as a loop over their `step` ("reference").

    >>> import torch, ranvier
    >>> x = torch.randn(10, 2, 3)
    >>> with ranvier.backend("reference"):
    ...     y = ranvier.LIF()(x)
    >>> torch.equal(y, ranvier.LIF()(x))
    True
    """
    if name not in ("fused", "reference"):
        raise Refusal(
            "backend", expected="'fused' or 'reference'", got=repr(name), do=nearest(name, ("fused", "reference"))
        )
    token = _backend.set(name)
    try:
        yield
    finally:
        _backend.reset(token)


def wants_reference() -> bool:
    """Whether the plain loop is asked for, or is what a tracer of torch operations needs to see."""
    if torch.compiler.is_compiling():
        return True
    return _backend.get() == "reference" or torch._C._functorch.peek_interpreter_stack() is not None


class Layout(NamedTuple):
    """Where the value of neuron m of M = batch * features lies in a parameter: at (m // inner) % count."""

    inner: int
    number: int


@dataclass(frozen=True, eq=False)
class Plan:
    """A program in one situation: dtypes, which parameters vary, what is given, recorded and learnt."""

    program: Program
    variant: Variant
    layouts: tuple[Layout | None, ...]

    @cached_property
    def number(self) -> torch.dtype:
        """The dtype of states and parameters."""
        dtype: torch.dtype = getattr(torch, self.variant.number)
        return dtype

    def sizes(self, x: Tensor) -> dict[str, int]:
        """The size arguments of a kernel."""
        found = {"T": len(x), "M": x.shape[1:].numel(), "stride:x": x.stride(0)}
        for name, layout in zip(self.program.parameters, self.layouts, strict=True):
            if layout is not None:
                found |= {f"inner:{name}": layout.inner, f"count:{name}": layout.number}
        return found

    def inputs(self, x: Tensor, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """The arguments that are given to both kernels: x, the parameters, and the initial states if there are any."""
        names = [f"p:{k}" for k in self.program.parameters] + [f"initial:{k}" for k in self.program.states]
        return {"x": x, **dict(zip(names, values, strict=False))}

    def forward(self, x: Tensor, values: Sequence[Tensor], keep: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Output, final states and records; and with `keep` the checkpoints for backward."""
        launch, empty = _device(x)
        variant = replace(self.variant, checkpoints=keep)
        y = empty(x.shape, dtype=x.dtype)
        finals = [empty(x.shape[1:], dtype=self.number) for _ in self.program.states]
        records = [empty(x.shape, dtype=self.number) for _ in variant.record]
        rows = max(-(-len(x) // segment(self.program)) - 1, 0)
        checkpoints = [empty((rows, *x.shape[1:]), dtype=self.number) for _ in self.program.states] if keep else []
        given: dict[str, Tensor | int] = {**self.sizes(x), **self.inputs(x, values), "y": y}
        given |= {f"final:{k}": t for k, t in zip(self.program.states, finals, strict=True)}
        given |= {f"record:{k}": t for k, t in zip(variant.record, records, strict=True)}
        given |= {f"checkpoint:{k}": t for k, t in zip(self.program.states, checkpoints, strict=bool(keep))}
        launch(self.program, variant, False, given)
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
        launch, empty = _device(x)
        program, states = self.program, self.program.states
        gy, finals, records = grads[0], grads[1 : 1 + len(states)], grads[1 + len(states) :]
        learnt = dict.fromkeys(program.learnt)
        variant = replace(
            self.variant,
            spikes=gy is not None,
            final=any(g is not None for g in finals),
            record=tuple(k for k, g in zip(self.variant.record, records, strict=True) if g is not None),
            grad_x=needs[0],
            grad_initial=any(needs[1 + len(program.parameters) :]),
        )
        given: dict[str, Tensor | int] = {**self.sizes(x), **self.inputs(x, values)}
        given |= {f"checkpoint:{k}": t for k, t in zip(states, checkpoints, strict=True)}
        if gy is not None:
            given["gy"] = gy = by_rows(gy)
            given["stride:gy"] = gy.stride(0)
        if variant.final:
            kept = [
                torch.zeros(x.shape[1:], dtype=self.number, device=x.device) if g is None else g.contiguous()
                for g in finals
            ]
            given |= {f"gs:{k}": g for k, g in zip(states, kept, strict=True)}
        given |= {
            f"grecord:{k}": g.contiguous() for k, g in zip(self.variant.record, records, strict=True) if g is not None
        }
        if variant.grad_x:
            given["gx"] = empty(x.shape, dtype=x.dtype)
        if variant.grad_initial:
            given |= {f"ginitial:{k}": empty(x.shape[1:], dtype=self.number) for k in states}
        given |= {f"gp:{k}": empty(x.shape[1:], dtype=self.number) for k in learnt}
        launch(program, variant, True, given)
        found: list[Tensor | None] = [given.get("gx")]  # type: ignore[list-item]
        for name, value, layout in zip(program.parameters, values, self.layouts, strict=False):
            g = given.get(f"gp:{name}")
            found.append(None if g is None else _summed(g, layout).reshape(value.shape))  # type: ignore[arg-type]
        return [*found, *(given.get(f"ginitial:{k}") for k in states if self.variant.initial)]  # type: ignore[list-item]


def _summed(g: Tensor, layout: Layout | None) -> Tensor:
    return g.sum() if layout is None else g.reshape(-1, layout.number, layout.inner).sum((0, 2))


def by_rows(x: Tensor) -> Tensor:
    """x itself where each time step is contiguous, whatever the stride from one to the next (0 for a repeated step)."""
    return x if len(x) and x[0].is_contiguous() else x.contiguous()


def _device(x: Tensor) -> tuple[Callable[..., None], Callable[..., Tensor]]:
    if x.device.type == "cpu" and not _interpreting():
        from ranvier.compile import cpu

        return cpu.launch, cpu.empty
    if x.device.type in ("cuda", "cpu"):
        from ranvier.compile import gpu

        return gpu.launch, partial(torch.empty, device=x.device)
    raise Refusal(
        "fused neurons",
        expected="a tensor on a CPU or a CUDA GPU",
        got=f"one on {x.device}",
        do="Choose ranvier.backend('reference').",
    )


def _interpreting() -> bool:
    """Whether Triton's interpreter stands in for a GPU, as the tests have it."""
    return os.environ.get("TRITON_INTERPRET") == "1"


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        outputs, checkpoints = plan.forward(x, values, keep=True)
        ctx.plan, ctx.given = plan, len(values)
        ctx.save_for_backward(x, *values, *checkpoints)
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise Refusal(
                "fused neurons",
                expected="a first derivative",
                got="create_graph=True",
                do="Run the forward pass inside ranvier.backend('reference').",
            )
        x, *rest = ctx.saved_tensors
        values, checkpoints = rest[: ctx.given], rest[ctx.given :]
        return None, *ctx.plan.backward(x, values, checkpoints, grads, ctx.needs_input_grad[1:])


_plans: dict[Hashable, Plan] = {}


def scan(
    key: Hashable,
    trace: Callable[[tuple[str, ...]], Program],
    rest: Sequence[float],
    x: Tensor,
    initial: Sequence[Tensor] | None,
    parameters: dict[str, Tensor],
    record: Sequence[str] = (),
    draws: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Output, final states and recorded states of a program over x [T, B, ...features].

    `key` stands for the equation; `trace` makes its program, given which parameters are learnt. Without `initial` the states
    start at `rest`. `draws` are seed and first step [B] of an equation that draws random numbers.
    """
    number = torch.float64 if x.dtype == torch.float64 else torch.float32
    x = by_rows(x)
    values, layouts = (
        zip(*(_laid_out(p.to(number), x.shape[2:]) for p in parameters.values()), strict=True)
        if parameters
        else ((), ())
    )
    if draws is not None:
        words, places = zip(*_random(*draws, x, number), strict=True)
        values, layouts = (*values, *words), (*layouts, *places)
        parameters = {**parameters, **dict.fromkeys(RANDOM, x)}
    if initial is not None:
        values = (*values, *(s.contiguous() for s in initial))
    needed = torch.is_grad_enabled() and (x.requires_grad or any(v.requires_grad for v in values))
    learnt = tuple(k for k, v in zip(parameters, values, strict=False) if v.requires_grad) if needed else ()
    situation = (key, learnt, layouts, x.dtype, initial is None, tuple(record))
    plan = _plans.get(situation)
    if plan is None:
        if x.dtype not in _DTYPES:
            raise Refusal("fused neurons", expected=f"one of {_DTYPES}", got=str(x.dtype), do="Convert the input.")
        columns = frozenset(k for k, layout in zip(parameters, layouts, strict=True) if layout is not None)
        io = str(x.dtype).removeprefix("torch.")
        variant = Variant(io, columns, tuple(rest), initial=initial is not None, record=tuple(record))
        plan = _plans[situation] = Plan(trace(learnt), variant, layouts)
    outputs = _Scan.apply(plan, x, *values) if needed else plan.forward(x, values, keep=False)[0]  # type: ignore[no-untyped-call]
    states = len(plan.program.states)
    return outputs[0], list(outputs[1 : 1 + states]), list(outputs[1 + states :])


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


def _laid_out(p: Tensor, features: Sequence[int]) -> tuple[Tensor, Layout | None]:
    """A parameter as a contiguous tensor and where each neuron's value lies in it; None when all share one."""
    if p.numel() == 1:
        return p.reshape(()), None
    shape = (1,) * (len(features) - p.ndim) + tuple(p.shape)
    own = [i for i, size in enumerate(shape) if size != 1]
    first, last = own[0], own[-1]
    if any(shape[i] != features[i] for i in range(first, last + 1)):  # it repeats in the middle
        p = p.expand(*features)
        first, last = 0, len(features) - 1
    return p.contiguous(), Layout(prod(features[last + 1 :]), prod(features[first : last + 1]))
