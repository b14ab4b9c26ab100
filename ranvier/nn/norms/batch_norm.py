from torch import Tensor

from ranvier.nn.norms.norm import Norm


class BatchNorm(Norm):
    """Batch normalisation over time, batch and space: the statistics of a channel are those of all its values.

    y = weight (x - mean) / sqrt(var + eps) + bias.

    The numbers and the names of the weights are those of Fold(nn.BatchNorm1d) and Fold(nn.BatchNorm2d). Steps past
    the `lengths` that a run was told don't count. In front of a neuron, `Normalised(BatchNorm(C), neuron)` gives the
    same without ever writing y.

    Input: [T, B, features, ...]. Output: same shape.
    Raises: Refusal for another number of channels, and in training for a single value in each.
    Source: Ioffe and Szegedy, ICML 2015.

    >>> import torch
    >>> y = BatchNorm(3)(5 + 2 * torch.randn(10, 4, 3))
    >>> y.mean((0, 1)).abs().max() < 1e-5, (y.std((0, 1)) - 1).abs().max() < 0.02
    (tensor(True), tensor(True))
    """

    def gain(self) -> tuple[Tensor, Tensor]:
        return self.affine()
