from math import isfinite

from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.nn.norms.norm import Norm


class ThresholdBatchNorm(Norm):
    """Threshold-dependent batch normalisation (tdBN): currents are spread as wide as the neuron's threshold is high.

    y = weight alpha threshold (x - mean) / sqrt(var + eps) + bias, with the statistics of all steps, samples and places.

    alpha is 1 in a chain of layers and 1/sqrt(n) where n branches are added up in front of the neuron, so that their
    sum has the spread of one.

    Input: [T, B, features, ...]. Output: same shape.
    Raises: Refusal for another number of channels, for alpha or threshold that are not positive, and in training for a
    single value in each channel.
    Source: Zheng, Wu, Deng, Hu and Li, AAAI 2021, eq. 6-8.

    >>> import torch
    >>> y = ThresholdBatchNorm(3, threshold=0.5)(torch.randn(50, 4, 3))
    >>> (y.std((0, 1)) - 0.5).abs().max() < 0.01
    tensor(True)
    """

    def __init__(
        self,
        features: int,
        *,
        threshold: float = 1.0,
        alpha: float = 1.0,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__(features, eps=eps, momentum=momentum, affine=affine)
        for name, value in (("threshold", threshold), ("alpha", alpha)):
            if not (value > 0 and isfinite(value)):
                raise Refusal(
                    f"ThresholdBatchNorm.{name}",
                    expected="a positive number",
                    got=repr(value),
                    do="Give the neuron's threshold, and 1/sqrt(branches) as alpha.",
                )
        self.threshold, self.alpha = threshold, alpha

    def gain(self) -> tuple[Tensor, Tensor]:
        weight, bias = self.affine()
        return weight * (self.alpha * self.threshold), bias

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, threshold={self.threshold:g}, alpha={self.alpha:g}"
