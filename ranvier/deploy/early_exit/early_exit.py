"""A network that is run no further than a policy wants, sample by sample."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.running import run
from ranvier.deploy.early_exit.policy import ExitPolicy
from ranvier.deploy.early_exit.presenting import evaluating, presented, values


class Exit(NamedTuple):
    """What was said of each sample, and when."""

    scores: Tensor
    """[B, classes], accumulated until the sample left"""
    steps: Tensor
    """[B], after how many steps it left"""


class EarlyExit(nn.Module):
    """Any network, run step by step until a policy has seen enough of each sample.

    scores[t] = sum of the outputs up to t, or the value so far of a decoder that ends the network; a sample leaves at
    the first t at which the policy says so, at the last step otherwise. The rows of those that left are taken out of
    input and state, so nothing is computed for them any more. With `chunk` > 1 that many steps are computed at a time;
    a sample still leaves at the step that the policy said, but its chunk was computed to the end.

    A static input [1, B, ...] is shown at every step; what comes before a ranvier.Direct along a Sequential runs once.
    The network runs in eval mode and without gradients.

    Input: x [T, B, ...]; lengths [B], the steps of each sequence that are real. Output: scores [B, classes] and
    steps [B].
    Raises: Refusal for networks that are not causal in time, by the layer's name; where a step in is not a step out;
    for outputs that are not [T, B, classes] or [B, classes]; for lengths outside 1..T.

    >>> import ranvier
    >>> from ranvier.deploy.early_exit import DynamicConfidence
    >>> net = EarlyExit(nn.Sequential(ranvier.LeakyIntegrator(tau=1.0)), DynamicConfidence(0.9), max_steps=8)
    >>> net(torch.tensor([[[0.0, 3.0], [0.0, 1.0], [0.0, 0.1]]])).steps
    tensor([1, 3, 8])
    """

    def __init__(self, model: nn.Module, policy: ExitPolicy, max_steps: int | None = None, chunk: int = 1) -> None:
        super().__init__()
        if chunk < 1:
            raise Refusal("EarlyExit.chunk", expected="1 step or more", got=repr(chunk), do="1 computes the least.")
        self.model, self.policy, self.max_steps, self.chunk = model, policy, max_steps, chunk

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Exit:
        with evaluating(self.model):
            return self._run(x, lengths)

    def _run(self, x: Tensor, lengths: Tensor | None) -> Exit:
        model, x, steps = part = presented(self.model, x, self.max_steps)
        batch = x.shape[1]
        last = _last(lengths, steps, batch, x.device)
        present, state, total = torch.arange(batch, device=x.device), None, None
        scores, when = None, last.clone()
        for start in range(0, steps, self.chunk):
            stop = min(start + self.chunk, steps)
            inputs = part.chunk(start, stop)
            if len(present) < batch:
                inputs = inputs[:, present]
            real = None if lengths is None else (last[present] - start).clamp(max=stop - start)
            y, state = run(model, inputs, state, lengths=real)
            outputs, ends_time = values(y, stop - start, len(present))
            going = torch.ones(len(present), dtype=torch.bool, device=x.device)
            for step, output in enumerate(outputs, start=stop if ends_time else start + 1):
                total = output if ends_time or total is None else total + output
                leave = going & (self.policy.decide(total, step) | (last[present] <= step))
                if scores is None:
                    scores = torch.zeros(batch, *total.shape[1:], dtype=total.dtype, device=total.device)
                scores[present[leave]] = total[leave]
                when[present[leave]] = last[present[leave]].clamp(max=step)
                going &= ~leave
            if not bool(going.any()):
                break
            if not bool(going.all()):
                present, state = present[going], {name: value[going] for name, value in state.items()}
                total = None if total is None else total[going]
        assert scores is not None
        return Exit(scores, when)


def _last(lengths: Tensor | None, steps: int, batch: int, device: torch.device) -> Tensor:
    if lengths is None:
        return torch.full((batch,), steps, device=device)
    if lengths.shape != (batch,) or (batch and not 1 <= int(lengths.min()) <= int(lengths.max()) <= steps):
        raise Refusal(
            "EarlyExit.lengths",
            expected=f"a number of steps from 1 to {steps} for each of {batch} sequences",
            got=f"shape {tuple(lengths.shape)}" if lengths.shape != (batch,) else str(lengths.tolist()),
            do="Give the lengths [B] of this batch, and drop empty sequences.",
        )
    return lengths.to(device)
