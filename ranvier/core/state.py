"""State as a value: how a stateful module gets what it left off with, and hands on what comes next.

`run` lays a carrier on the current thread; each stateful module takes its tensors from it by its
qualified name and puts the new ones back. Without a carrier a module starts at rest and keeps nothing.
The carrier is thread-local because a ContextVar breaks `torch.compile(fullgraph=True)` and strict export.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal, nearest

_local = threading.local()


class Carrier:
    """What one `run` carries: the state before and after, what to record, and the lengths of the sequences."""

    def __init__(
        self,
        names: Mapping[nn.Module, str],
        state: Mapping[str, Tensor] | None,
        record: Collection[str],
        lengths: Tensor | None,
    ) -> None:
        self.names = names
        self.before = state
        self.after: dict[str, Tensor] = {}
        self.record = record
        self.recorded: dict[str, Tensor] = {}
        self.lengths = lengths
        self.seen: list[str] = []

    def name(self, module: nn.Module, key: str) -> str:
        prefix = self.names[module]
        return f"{prefix}.{key}" if prefix else key

    def see(self, name: str) -> None:
        """Note that the module called `name` has run; once is right."""
        if name in self.seen:
            raise Refusal(
                name or "the model",
                expected="one call in a run",
                got="a second one, which would overwrite its state",
                do="Use a module of its own for each place in the network.",
            )
        self.seen.append(name)

    def take(self, module: "Stateful", x: Tensor) -> dict[str, Tensor] | None:
        """The state that the module left off with; None when it starts at rest."""
        if module not in self.names:
            raise Refusal(
                type(module).__name__,
                expected="a module of the model that was given to run",
                got="one that the model does not own",
                do="Register it as a submodule, so that its state has a name.",
            )
        self.see(self.names[module])
        if self.before is None:
            return None
        return {key: self._checked(self.name(module, key), value) for key, value in module.rest(x).items()}

    def _checked(self, name: str, rest: Tensor) -> Tensor:
        assert self.before is not None
        if name not in self.before:
            raise Refusal(
                f"state {name!r}",
                expected="an entry for every stateful module",
                got=f"none; {nearest(name, self.before)}",
                do="Pass the state that run returned for this model, or None to start at rest.",
            )
        value = self.before[name]
        if value.shape != rest.shape or value.dtype != rest.dtype:
            raise Refusal(
                f"state {name!r}",
                expected=f"{tuple(rest.shape)} {rest.dtype}",
                got=f"{tuple(value.shape)} {value.dtype}",
                do="Continue with the same batch size and dtype, or pass None to start at rest.",
            )
        return value

    def put(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        for key, value in state.items():
            self.after[self.name(module, key)] = value


def current() -> Carrier | None:
    """The carrier that `run` laid on this thread, if any."""
    carrier: Carrier | None = getattr(_local, "carrier", None)
    return carrier


def carry(carrier: Carrier, function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` with `carrier` laid on this thread, and put back what lay there before."""
    before = current()
    _local.carrier = carrier
    try:
        return function(*args)
    finally:
        _local.carrier = before


def state_dtype(x: Tensor) -> torch.dtype:
    """State is float32 whatever the autocast, and float64 for float64 input."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def lengths_of(x: Tensor) -> Tensor:
    """How many steps of each sequence of the batch are real: what `run` was told, else all of them. Shape [B]."""
    carrier = current()
    if carrier is None or carrier.lengths is None:
        return torch.full((x.shape[1],), x.shape[0], device=x.device)
    if carrier.lengths.shape != (x.shape[1],):
        raise Refusal(
            "lengths",
            expected=f"one number of steps for each of {x.shape[1]} sequences",
            got=f"shape {tuple(carrier.lengths.shape)}",
            do="Give the lengths [B] of this batch, as ranvier.data.samples.pad returns them.",
        )
    return carrier.lengths.to(x.device)


def retime(change: Callable[[Tensor], Tensor] | None) -> None:
    """Tell later modules of this run what became of the lengths where a module changes the number of steps.

    None: every sequence has all steps from here on.
    """
    carrier = current()
    if carrier is not None and carrier.lengths is not None:
        carrier.lengths = None if change is None else change(carrier.lengths)


class Stateful(nn.Module, ABC):
    """A module whose output depends on what came before.

    A subclass says what it starts from (`rest`) and how it goes on (`advance`); both are pure.
    """

    records: Sequence[str] = ()
    """What `run(..., record=...)` can ask of it."""

    @abstractmethod
    def rest(self, x: Tensor) -> dict[str, Tensor]:
        """The state before the first step of `x`: batch on axis 0."""

    @abstractmethod
    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The output for the whole sequence `x`, and the state after it."""

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As `advance`, from rest."""
        return self.advance(x, self.rest(x))

    def forward(self, x: Tensor) -> Tensor:
        carrier = current()
        if carrier is None:
            self._refuse_recomputation()
            return self.begin(x)[0]
        given = carrier.take(self, x)
        y, state = self.begin(x) if given is None else self.advance(x, given)
        carrier.put(self, state)
        return y

    def wants(self, what: str) -> bool:
        """Whether the current run records `what`."""
        carrier = current()
        return carrier is not None and what in carrier.record and what in self.records

    def note(self, what: str, value: Tensor) -> None:
        """Hand `value` to the current run's recording, if it asked for `what`."""
        carrier = current()
        if carrier is not None and self.wants(what):
            carrier.recorded[carrier.name(self, what)] = value

    def _refuse_recomputation(self) -> None:
        # Activation checkpointing calls forward again inside backward, where no carrier lies any more: starting from
        # rest there would give wrong gradients without a word.
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0:
            raise Refusal(
                type(self).__name__,
                expected="ranvier.checkpoint around stateful modules",
                got="torch.utils.checkpoint, which recomputes them from rest",
                do="Replace torch.utils.checkpoint.checkpoint(module, x) by ranvier.checkpoint(module, x).",
            )
