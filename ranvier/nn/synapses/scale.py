from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal


class Scale(nn.Module):
    """Each feature times a fixed number of its own.

    y[t] = s x[t].

    Input: [T, B, ..., features]. Output: same shape.
    Raises: Refusal for another number of features.
    Source: the primitive of this name in the Neuromorphic Intermediate Representation, Pedersen et al. 2024.

    >>> import torch
    >>> Scale([1.0, 0.5])(torch.ones(1, 1, 2))
    tensor([[[1.0000, 0.5000]]])
    """

    scale: Tensor

    def __init__(self, scale: float | Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        if self.scale.ndim and (x.ndim < 3 or x.shape[-1] != len(self.scale)):
            raise Refusal(
                "Scale",
                expected=f"[T, B, ..., {len(self.scale)}], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or give one number for each feature.",
            )
        return x * self.scale.to(x.dtype)

    def extra_repr(self) -> str:
        return str(self.scale.tolist())
