import torch
from torch import Tensor

from ranvier.nn.norms.norm import Norm, real_steps


class MembraneBatchNorm(Norm):
    """Batch normalisation of the membrane (MPBN), inside a neuron's step, right in front of its threshold test.

    n[t] = weight (m[t] - mean) / sqrt(var + eps) + bias, where m is what the neuron would compare with its threshold.
    The neuron fires by n and resets m.

    In training mean and var are those of the step at hand, and the running ones take in each step. `features` is the
    number of channels, or the shape of all features for statistics of each element.

    A neuron takes it as `Normalised(norm, neuron, membrane=MembraneBatchNorm(features))`; `fold_norms` turns a trained
    one into thresholds. Called itself, it normalises each step of a sequence.

    Input: [T, B, *features, ...]. Output: same shape.
    Raises: Refusal for other features, and in training for a single value of each in a step.
    Source: Guo et al., ICCV 2023.

    >>> import torch
    >>> y = MembraneBatchNorm(3)(torch.randn(4, 50, 3).cumsum(0))
    >>> y.mean(1).abs().max() < 1e-5, (y.var(1, correction=0) - 1).abs().max() < 1e-3
    (tensor(True), tensor(True))
    """

    def gain(self) -> tuple[Tensor, Tensor]:
        return self.affine()

    def forward(self, x: Tensor) -> Tensor:
        self.refuse_shape(x)
        real = real_steps(x) if self.training else None
        each = [None] * len(x) if real is None else list(real)
        return torch.stack([self.at_step(m, r) for m, r in zip(x, each, strict=True)]) if len(x) else x

    def at_step(self, m: Tensor, real: Tensor | None = None) -> Tensor:
        """One step [B, *features, ...]; in training `real` [B] tells which samples count, where None stands for all."""
        return self.normalised(m[None], None if real is None else real[None])[0]
