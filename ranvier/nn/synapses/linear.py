from torch import Tensor, nn

from ranvier.core.checks import Refusal


class Linear(nn.Linear):
    """All-to-all synapses: torch's Linear, which refuses input without time and batch axes instead of misreading it.

    y[t] = W x[t] + b.

    Input: [T, B, ..., in_features]. Output: [T, B, ..., out_features].
    Raises: Refusal for fewer than three axes or another number of features.

    >>> import torch
    >>> Linear(3, 5)(torch.zeros(10, 2, 3)).shape
    torch.Size([10, 2, 5])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 3 or x.shape[-1] != self.in_features:
            raise Refusal(
                "Linear",
                expected=f"[T, B, ..., {self.in_features}], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make in_features fit.",
            )
        return super().forward(x)
