from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful


class Fold(nn.Module):
    """Modules that want [N, ...], applied to every time step of [T, B, ...] at once, with time folded into the batch.

    y[t, b] = modules(x)[t B + b]; a batch norm inside sees the statistics of all steps and samples.

    Input: [T, B, ...]. Output: [T, B, ...].
    Raises: Refusal for a stateful module inside, which would take time for batch.

    >>> import torch
    >>> Fold(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8))(torch.zeros(5, 4, 2, 10, 10)).shape
    torch.Size([5, 4, 8, 8, 8])
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.inner = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        for name, module in self.inner.named_modules():
            if isinstance(module, Stateful):
                raise Refusal(
                    "Fold",
                    expected="modules without state",
                    got=f"{type(module).__name__} at {name or '0'!r}",
                    do="Put it beside the Fold: it takes [T, B, ...] as it is.",
                )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x.flatten(0, 1))
        return y.reshape(*x.shape[:2], *y.shape[1:])
