import torch
from torch import Tensor
from torch.nn import functional

from ranvier.core.checks import Refusal
from ranvier.nn.synapses.lateral import Lateral


class EILinear(Lateral):
    """All-to-all synapses onto excitatory neurons, which inhibitory neurons beside them hold in range; no norm is needed.

    E = W_EE x, I = W_IE x; y = g_E (E - W_EI I) / (W_EI (g_I I)) + b, all weights and gains >= 0 (Dale's law).

    There is an inhibitory neuron for every `ei_ratio` excitatory ones. A zero divisor is taken as the smallest other one
    of its sample and step; a silent input gives y = b. An `output` layer gives E - W_EI I. With `ei_prop` the gradient of
    W_EI is divided by in_features. `ei_init(model, batch)` draws the weights for real inputs, and
    `keep_dale(optimiser, model)` clamps them after each step.

    Input: spikes or other values >= 0, [T, B, ..., in_features]. Output: currents [T, B, ..., out_features].
    Raises: Refusal for fewer than three axes, another number of features and inputs below 0 (looked for on CPUs).
    Source: Liu, Ding and Yu, ICLR 2026 (E-I layer, E-I Init, E-I Prop).

    >>> layer = EILinear(100, 400)
    >>> x = torch.rand(4, 64, 100)
    >>> layer.init_from_batch(x)
    >>> y = layer(x); y.shape, bool(y.mean().abs() < 0.2), bool((y.std() - 1).abs() < 0.5)
    (torch.Size([4, 64, 400]), True, True)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        ei_ratio: int = 4,
        *,
        output: bool = False,
        ei_prop: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__((out_features, in_features), in_features, ei_ratio, output, ei_prop, generator)
        self.in_features, self.out_features = in_features, out_features

    def currents(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight)

    def mixed(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight)

    def along(self, values: Tensor) -> Tensor:
        return values

    def refuse_shape(self, x: Tensor) -> None:
        if x.ndim < 3 or x.shape[-1] != self.in_features or not x.is_floating_point():
            raise Refusal(
                "EILinear",
                expected=f"floating-point [T, B, ..., {self.in_features}], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add the missing axis with unsqueeze, make in_features fit, or convert with x.float().",
            )

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, inhibitory={len(self.inhibitory)}, output={self.output}"
