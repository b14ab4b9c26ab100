from torch import Tensor
from torch.nn.functional import cross_entropy

from ranvier.core.checks import Refusal


def tet_loss(outputs: Tensor, labels: Tensor, share: float = 1e-3, level: float = 1.0) -> Tensor:
    """Temporal efficient training: every step's output is to be right by itself, not only their mean.

    L = (1 - share) mean over t of CE(o[t], y) + share mean of (o - level)^2.

    Input: outputs [T, B, classes], labels [B]. Output: a scalar.
    Raises: Refusal for other shapes.
    Source: Deng, Li, Zhang and Gu, ICLR 2022, eq. 10-12; with a constant level as in Wu et al., Front. Neurosci. 2023.

    >>> import torch
    >>> outputs = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
    >>> f"{tet_loss(outputs, torch.tensor([0])):.4f}"
    '1.1268'
    """
    if outputs.ndim != 3 or labels.shape != outputs.shape[1:2]:
        raise Refusal(
            "tet_loss",
            expected="outputs [T, B, classes] and labels [B]",
            got=f"{tuple(outputs.shape)} and {tuple(labels.shape)}",
            do="Leave out the decoder that ends time.",
        )
    each = cross_entropy(outputs.flatten(0, 1), labels.repeat(len(outputs)))
    return (1 - share) * each + share * (outputs - level).square().mean()
