"""Convolutional synapses over [T, B, C, ...]: torch's own, with time folded into the batch."""

from torch import Tensor, nn

from ranvier.core.checks import Refusal


def _convolved(layer: "Conv1d | Conv2d", x: Tensor, space: str) -> Tensor:
    if x.ndim != 3 + len(layer.kernel_size) or x.shape[2] != layer.in_channels:
        raise Refusal(
            type(layer).__name__,
            expected=f"[T, B, {layer.in_channels}, {space}], time first",
            got=f"shape {tuple(x.shape)}",
            do="Add the missing axis with unsqueeze, or make in_channels fit.",
        )
    y: Tensor = layer._conv_forward(x.flatten(0, 1), layer.weight, layer.bias)
    return y.reshape(*x.shape[:2], *y.shape[1:])


class Conv1d(nn.Conv1d):
    """Synapses shared along one axis of space (not time): torch's Conv1d at every step.

    Input: [T, B, in_channels, L]. Output: [T, B, out_channels, L'].
    Raises: Refusal for another number of axes or channels.

    >>> import torch
    >>> Conv1d(2, 4, 3)(torch.zeros(5, 1, 2, 10)).shape
    torch.Size([5, 1, 4, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        return _convolved(self, x, "L")


class Conv2d(nn.Conv2d):
    """Synapses shared over a picture: torch's Conv2d at every step.

    Input: [T, B, in_channels, H, W]. Output: [T, B, out_channels, H', W'].
    Raises: Refusal for another number of axes or channels.

    >>> import torch
    >>> Conv2d(1, 8, 3, padding=1)(torch.zeros(4, 2, 1, 8, 8)).shape
    torch.Size([4, 2, 8, 8, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        return _convolved(self, x, "H, W")
