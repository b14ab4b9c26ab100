"""What is computed: random currents, a random gradient, and the passes that are measured."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import ranvier
from ranvier.lab.bench.peers import Spelling

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
SEED = 0


class Work:
    """Input and output gradient of a neuron, and the passes that are measured."""

    def __init__(self, x: Tensor, g: Tensor) -> None:
        self.x, self.g = x, g
        self._scaled: dict[float, Tensor] = {}

    def input(self, spelling: Spelling) -> Tensor:
        """The input that a peer needs for the same currents, made once."""
        if spelling.scale not in self._scaled:
            scaled = self.x if spelling.scale == 1 else self.x * spelling.scale
            self._scaled[spelling.scale] = scaled.detach().clone().requires_grad_()
        return self._scaled[spelling.scale]

    def forward(self, spelling: Spelling) -> Tensor:
        """The output, without what a backward pass would need."""
        with torch.no_grad():
            spelling.start()
            return spelling.function(self.input(spelling))

    def training(self, spelling: Spelling) -> Tensor:
        """The output, ready for a backward pass."""
        spelling.start()
        return spelling.function(self.input(spelling))

    def both(self, spelling: Spelling, g: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output and the input's gradient; those of what is learnt are computed as well."""
        y = self.training(spelling)
        g = self.g if g is None else g
        wanted = [self.input(spelling), *spelling.learnt]
        return y.detach(), torch.autograd.grad(y, wanted, g.to(y.dtype))[0]

    def compared(self, spelling: Spelling, delay: int) -> tuple[Tensor, Tensor]:
        """Output and gradient in terms of our input, without the last `delay` steps, which a delayed peer doesn't reach."""
        g = self.g.clone()
        g[len(g) - delay :] = 0
        y, grad = self.both(spelling, torch.roll(g, spelling.delay, 0))
        return torch.roll(y, -spelling.delay, 0)[: len(y) - delay], grad * spelling.scale


def driven(shape: Sequence[int], dtype: torch.dtype, device: torch.device, gain: float) -> Work:
    """Random currents and a random gradient of the output."""
    generator = torch.Generator().manual_seed(SEED)
    x, g = (torch.randn(tuple(shape), generator=generator) for _ in range(2))
    return Work((gain * (x + 0.5)).to(device, dtype), g.to(device, dtype))


def strength(kind: Callable[[], Any], steps: int) -> tuple[float, float]:
    """A strength of the currents at which a tenth of all steps carry a spike, and how many do."""
    layer, rate = kind(), 0.0
    for gain in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
        with torch.no_grad(), ranvier.backend("reference"):
            rate = float(
                (layer(driven((steps, 2, 64), torch.float32, torch.device("cpu"), gain).x) != 0).float().mean()
            )
        if not layer.spiking or rate >= 0.1:
            break
    return gain, rate


def nbytes(x: Tensor) -> int:
    """The size of a tensor's numbers."""
    return x.numel() * x.element_size()
