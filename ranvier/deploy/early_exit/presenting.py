"""How a sequence is shown to a network chunk by chunk, and what the network must be for that."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ranvier.core.checks import Refusal
from ranvier.core.running import run
from ranvier.core.state import state_dtype
from ranvier.nn.coding.direct import Direct

_CLOSE = 1e-2  # chunks round differently and flip a spike at its threshold now and then; a wrong order changes far more


class Presented(NamedTuple):
    """What runs step by step, on what, and how many steps."""

    model: nn.Module
    x: Tensor
    """[T, B, ...], or a static input [1, B, ...] that is shown at every step"""
    steps: int

    def chunk(self, start: int, stop: int) -> Tensor:
        """The input of steps `start` to `stop`."""
        return self.x[start:stop] if len(self.x) > 1 else self.x.expand(stop - start, *self.x.shape[1:])


def presented(model: nn.Module, x: Tensor, max_steps: int | None) -> Presented:
    """Cut off what is computed once, before a ranvier.Direct along a Sequential, and count the steps."""
    if x.ndim < 2 or not len(x):
        raise Refusal(
            "early exit", expected="[T, B, ...], time first", got=f"shape {tuple(x.shape)}", do="Add the missing axis."
        )
    if max_steps is not None and max_steps < 1:
        raise Refusal("early exit", expected="1 step or more", got=f"max_steps={max_steps}", do="Choose how many.")
    if len(x) > 1:
        if max_steps is not None and max_steps > len(x):
            raise Refusal(
                "early exit", expected=f"max_steps of at most {len(x)}", got=f"{max_steps}", do="Give longer sequences."
            )
        return Presented(model, x, max_steps or len(x))
    if isinstance(model, nn.Sequential):
        for place, module in enumerate(model):
            if isinstance(module, Direct):
                current = run(model[:place], x)[0] if place else x
                return Presented(model[place + 1 :], current, max_steps or module.steps)
    return Presented(model, x, max_steps or 1)


def values(y: Tensor, steps: int, batch: int) -> tuple[Tensor, bool]:
    """The outputs of a chunk as [steps or 1, B, classes] in the state's dtype, and whether they are accumulated already."""
    ends_time = y.ndim == 2
    y = y[None] if ends_time else y
    if y.ndim != 3 or y.shape[1] != batch or len(y) != (1 if ends_time else steps):
        raise Refusal(
            "early exit",
            expected=f"outputs [T={steps}, B={batch}, classes], or [B, classes] of a decoder",
            got=f"shape {tuple(y.shape[1:] if ends_time else y.shape)}",
            do="One step in must be one step out: encode before, put ranvier.Direct at the top of a Sequential, "
            "and pool over time nowhere.",
        )
    return y.to(state_dtype(y)), ends_time


@contextmanager
def evaluating(model: nn.Module, dropout: bool = False) -> Iterator[None]:
    """The model in eval mode, with `dropout` all but its dropouts; afterwards every module is as it was."""
    changed = [m for m in model.modules() if m.training != (dropout and isinstance(m, _DropoutNd))]
    try:
        for module in changed:  # those alone, since a batch of one sample is over in less than all take
            module.training = not module.training
        with torch.no_grad():
            yield
    finally:
        for module in changed:
            module.training = not module.training


def refuse_uncausal(model: nn.Module, x: Tensor, max_steps: int | None) -> None:
    """Refuse a model whose output in two chunks is another than at once; it looks ahead, or keeps state of its own."""
    part = presented(model, x, max_steps)
    if part.steps < 2:
        return
    half, batch = part.steps // 2, part.x.shape[1]
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(0)
        whole, ends_time = values(run(part.model, part.chunk(0, part.steps))[0], part.steps, batch)
        torch.manual_seed(0)
        first, state = run(part.model, part.chunk(0, half))
        second, _ = run(part.model, part.chunk(half, part.steps), state)
    first, _ = values(first, half, batch)
    second, _ = values(second, part.steps - half, batch)
    pieces = second if ends_time else torch.cat([first, second])
    if not bool((pieces - whole).norm() <= _CLOSE * whole.norm()):
        raise Refusal(
            "early exit",
            expected="a model that is causal in time and whose state is ranvier's",
            got=f"{type(model).__name__}, whose output in two chunks is another than at once",
            do="Replace what looks ahead or normalises over time, and keep state in a ranvier.Stateful.",
        )
