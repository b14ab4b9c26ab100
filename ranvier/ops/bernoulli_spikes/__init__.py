"""Spikes of independent neurons, each with a chance of its own at every step, drawn from one spike to the next."""

import torch
from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal
from ranvier.ops.bernoulli_spikes import reference
from ranvier.ops.spike_pack.spikes import Spikes


@torch.no_grad()
def bernoulli_spikes(probability: Tensor, steps: int, seed: Tensor) -> Spikes:
    """Spikes [T, B, I] of which neuron i of sample b has one at a step with probability[b, i].

    What a sample draws depends on its `seed` [B] alone (int64). The cost follows the spikes: the steps to a neuron's next one
    are drawn as a whole, floor(log u / log(1 - p)) of a uniform u.

    Raises: Refusal for probabilities outside 0 ... 1, another number of seeds, fewer than no steps.

    >>> x = bernoulli_spikes(torch.tensor([[0.0, 0.5, 1.0]]), 1000, torch.tensor([7]))
    >>> [round(n, 1) for n in x.dense().mean(0)[0].tolist()]
    [0.0, 0.5, 1.0]
    """
    if probability.ndim != 2 or not bool(((probability >= 0) & (probability <= 1)).all()):
        got = f"shape {tuple(probability.shape)}" if probability.ndim != 2 else "numbers outside, or NaN"
        raise Refusal("probability", expected="[B, I] from 0 to 1", got=got, do="Multiply rates by dt.")
    if seed.shape != probability.shape[:1] or seed.dtype != torch.int64 or steps < 0:
        got = f"{seed.dtype} of shape {tuple(seed.shape)} and {steps} steps"
        raise Refusal("seed", expected="int64 [B], and no fewer than 0 steps", got=got, do="Give one for each sample.")
    chances = probability.detach().to("cpu", torch.float64).contiguous()
    if wants_reference():
        found = reference.bernoulli_spikes(chances, steps, seed.cpu())
    else:
        from ranvier.ops.bernoulli_spikes import cpu

        found = cpu.bernoulli_spikes(chances, steps, seed.cpu().contiguous())
    return found.to(probability.device)
