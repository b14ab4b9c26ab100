import torch
from torch import Tensor
from torch.nn import functional

from ranvier.core.checks import Refusal
from ranvier.nn.synapses.lateral import Lateral


class EIConv2d(Lateral):
    """Synapses shared over a picture onto excitatory channels, which inhibitory channels hold in range; no norm is needed.

    E = W_EE * x, I = W_IE * x; y = g_E (E - W_EI I) / (W_EI (g_I I)) + b, where W_EI joins channels at one place;
    all weights and gains >= 0 (Dale's law). Else as EILinear, whose in_features are here a window's k k in_channels.

    Input: spikes or other values >= 0, [T, B, in_channels, H, W]. Output: currents [T, B, out_channels, H', W'].
    Raises: Refusal for another number of axes or channels and for inputs below 0 (looked for on CPUs).
    Source: Liu, Ding and Yu, ICLR 2026 (E-I layer, E-I Init, E-I Prop).

    >>> layer = EIConv2d(2, 8, 3, padding=1)
    >>> layer.init_from_batch(torch.rand(4, 16, 2, 6, 6))
    >>> layer(torch.zeros(1, 1, 2, 6, 6)).abs().max().item()
    0.0
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        ei_ratio: int = 4,
        *,
        stride: int = 1,
        padding: int = 0,
        output: bool = False,
        ei_prop: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        super().__init__(shape, in_channels * kernel_size**2, ei_ratio, output, ei_prop, generator)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding = stride, padding

    def currents(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, stride=self.stride, padding=self.padding)

    def mixed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight[..., None, None])

    def along(self, values: Tensor) -> Tensor:
        return values[:, None, None]

    def refuse_shape(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[2] != self.in_channels or not x.is_floating_point():
            raise Refusal(
                "EIConv2d",
                expected=f"floating-point [T, B, {self.in_channels}, H, W], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add the missing axis with unsqueeze, make in_channels fit, or convert with x.float().",
            )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, inhibitory={len(self.inhibitory)}, "
            f"stride={self.stride}, padding={self.padding}, output={self.output}"
        )
