from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ranvier.core.checks import Refusal
from ranvier.ops.spike_conv import spike_conv
from ranvier.ops.spike_conv.window import Window


class SpikeConv2d(nn.Conv2d):
    """Synapses shared over a picture of spikes: torch's Conv2d at every step, which keeps a bit for each input until backward.

    y[t] = W * x[t] + b, as `Conv2d`. With channels last, 32 of them or more, and few spikes y[t] and the gradient of W are sums
    over active inputs on a CPU; above a density that is measured once on each machine they are torch's. Spikes are kept
    as bits, whole numbers up to 127 (graded spikes, sums of a `SumPool2d`) as bytes, other numbers as in torch. Memory
    format and dtype stay what they are. `declared`: the input is known to be spikes, and all that is not 0 or 1 is refused.

    Input: spikes [T, B, in_channels, H, W]. Output: current [T, B, out_channels, H', W'].
    Raises: Refusal for another number of axes or channels, and when declared for other than 0 and 1.

    >>> import torch
    >>> layer = SpikeConv2d(1, 1, 2, bias=False)
    >>> _ = layer.weight.data.fill_(0.5)
    >>> layer(torch.eye(3)[None, None, None]).tolist()
    [[[[[1.0, 0.5], [0.5, 1.0]]]]]
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, *args: Any, declared: bool = False, **options: Any
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, *args, **options)
        self.declared = declared

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 5 or x.shape[2] != self.in_channels:
            raise Refusal(
                "SpikeConv2d",
                expected=f"[T, B, {self.in_channels}, H, W], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make in_channels fit.",
            )
        folded, around = x.flatten(0, 1), self._around()
        if self.padding_mode != "zeros" or around is None:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            folded, around = functional.pad(folded, self._reversed_padding_repeated_twice, mode=mode), (0, 0)
        window = Window(self.stride, around, self.dilation, self.groups)  # type: ignore[arg-type]
        y = spike_conv(folded, self.weight, self.bias, window, self.declared, "SpikeConv2d")
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def _around(self) -> tuple[int, int] | None:
        """Zeros on either side; None where the sides differ."""
        if not isinstance(self.padding, str):
            return self.padding  # type: ignore[return-value]
        sides = self._reversed_padding_repeated_twice
        return None if sides[0] != sides[1] or sides[2] != sides[3] else (sides[2], sides[0])

    def extra_repr(self) -> str:
        torchs: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return torchs + (", declared=True" if self.declared else "")
