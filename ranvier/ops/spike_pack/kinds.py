"""Spikes told from other numbers."""

import torch
from torch import Tensor

from ranvier.core.checks import Refusal

_LARGEST = 127


def are_spikes(x: Tensor) -> bool:
    """Whether all numbers are 0 or 1.

    >>> are_spikes(torch.tensor([0.0, 1.0])), are_spikes(torch.tensor([float("nan")]))
    (True, False)
    """
    return bool(((x == 0) | (x == 1)).all())


def graded(x: Tensor) -> Tensor | None:
    """Whole numbers up to 127 as bytes; None where there are others.

    >>> graded(torch.tensor([-1.0, 0.0, 3.0])), graded(torch.tensor([0.5]))
    (tensor([-1,  0,  3], dtype=torch.int8), None)
    """
    x = x.detach()
    if not bool((x == x.round()).all()) or x.abs().max() > _LARGEST:
        return None
    return x.to(torch.int8)


def not_spikes(name: str, x: Tensor) -> Refusal:
    """What a layer says that was declared to get spikes."""
    odd = x[(x != 0) & (x != 1)]
    return Refusal(
        name,
        expected="spikes, each 0 or 1, as the layer was declared to get",
        got=f"{odd[0].item():g} and {len(odd) - 1} other numbers that are neither",
        do="Leave out declared=True for graded spikes or other input.",
    )
