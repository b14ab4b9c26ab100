"""What a network's output says after every step, kept so that policies can be chosen and compared without it."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.running import run
from ranvier.deploy.early_exit.presenting import evaluating, presented, refuse_uncausal, values

_TRIED = 8  # samples on which causality is tried


def record(
    model: nn.Module, batches: Iterable[Tensor], max_steps: int | None = None, *, dropout: bool = False
) -> Tensor:
    """The scores of every sample after every step: outputs summed so far, or a decoder's value so far.

    Each batch runs at once, a network that ends in a decoder step by step; in eval mode, with `dropout` all but its
    dropouts. The first samples are run in two chunks as well, since what is recorded must be what chunks give.

    Input: batches of sequences x [T, B, ...] of one length, or static inputs [1, B, ...] that are shown for `max_steps`
    steps, or as many as the network's ranvier.Direct has. Output: scores [T, N, classes] on the CPU.
    Raises: Refusal for no batches, a model that is not causal in time, and outputs of another shape.

    >>> import ranvier
    >>> record(nn.Sequential(ranvier.LeakyIntegrator(tau=1.0)), [torch.ones(3, 1, 2)])[:, 0]
    tensor([[1., 1.],
            [2., 2.],
            [3., 3.]])
    """
    found: list[Tensor] = []
    for x in batches:
        with evaluating(model):
            if not found:
                refuse_uncausal(model, x[:, :_TRIED], max_steps)
        with evaluating(model, dropout):
            found.append(_scores(model, x, max_steps).cpu())
    if not found:
        raise Refusal("record", expected="a batch or more", got="none", do="Keep samples that are not trained on.")
    if len({(len(s), s.shape[2]) for s in found}) > 1:
        raise Refusal(
            "record",
            expected="as many steps and classes in every batch",
            got=", ".join(sorted({f"{len(s)} x {s.shape[2]}" for s in found})),
            do="Record sequences of one length at a time, or give max_steps.",
        )
    return torch.cat(found, 1)


def accumulated(outputs: Tensor) -> Tensor:
    """Outputs [T, ...] summed so far, in the order and to the bits in which one step after the other adds them.

    >>> accumulated(torch.tensor([1.0, 2.0, 3.0]))
    tensor([1., 3., 6.])
    """
    sums = [outputs[0]]
    for output in outputs[1:].unbind(0):
        sums.append(sums[-1] + output)
    return torch.stack(sums)


def _scores(model: nn.Module, x: Tensor, max_steps: int | None) -> Tensor:
    part = presented(model, x, max_steps)
    batch = part.x.shape[1]
    y, ends_time = values(run(part.model, part.chunk(0, part.steps))[0], part.steps, batch)
    if not ends_time:
        return accumulated(y)
    state, found = None, []
    for step in range(part.steps):
        y, state = run(part.model, part.chunk(step, step + 1), state)
        found.append(values(y, 1, batch)[0])
    return torch.cat(found)
