"""What keeps weights in order beside spike timing: sums held, thresholds met, silent inputs put off."""

import torch
from torch import Tensor


@torch.no_grad()
def scaled(weight: Tensor, target: float) -> Tensor:
    """Weights [..., I, O] of which those into each neuron add up to `target`; 0 where they add up to 0.

    >>> scaled(torch.tensor([[1.0], [3.0]]), 2.0).tolist()
    [[0.5], [1.5]]
    """
    total = weight.sum(-2, keepdim=True)
    return weight * torch.where(total > 0, target / total, 1.0)


@torch.no_grad()
def weakened(weight: Tensor, pre: Tensor, post: Tensor, a_minus: float) -> Tensor:
    """Weights [I, O], less a_minus for every spike of post [T, B, O] where pre [T, B, I] has none in the whole sequence.

    >>> weakened(torch.zeros(2, 1), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1, 1), 0.5).tolist()
    [[0.0], [-0.5]]
    """
    silent = (pre == 0).all(0).to(weight.dtype)
    return weight - a_minus * (silent.t() @ post.sum(0).to(weight.dtype)) / max(pre.shape[1], 1)


@torch.no_grad()
def balanced(weight: Tensor, theta: float, factor: float) -> Tensor:
    """Weights [..., I, O] whose positive ones add up to theta / factor; the others are minus the mean of these.

    >>> balanced(torch.tensor([[3.0], [3.0], [-1.0]]), theta=1.0, factor=1.0).flatten().tolist()
    [0.5, 0.5, -0.5]
    """
    positive = weight.clamp_min(0)
    total, count = positive.sum(-2, keepdim=True), (weight > 0).sum(-2, keepdim=True)
    level = theta / factor
    found = torch.where(weight > 0, positive * (level / total), -level / count)
    return torch.where(count > 0, found, weight)
