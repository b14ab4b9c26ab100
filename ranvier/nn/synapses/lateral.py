"""What layers of excitatory and inhibitory neurons have in common: their equation, their initialisation, Dale's law."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ranvier.core.checks import Refusal
from ranvier.core.state import state_dtype
from ranvier.nn.units.courses import unrounded

_SPIKES = (0.15, 0.15, 0.15 * 0.85)
"""Mean, mean square and variance of spikes at a rate of 0.15: what a layer is drawn for before it sees a batch."""


class _Positive(torch.autograd.Function):
    """max(w, 0), whose gradient is scaled, and withheld where w is below 0 and would be driven further down.

    At 0 itself it passes: weights that are clamped after each step of the optimiser get the gradient of the equation.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, scale: float) -> Tensor:
        return weight.clamp_min(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        weight, ctx.scale = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return (ctx.scale * grads[0]).masked_fill((weight < 0) & (grads[0] > 0), 0.0), None


class Lateral(nn.Module, ABC):
    """The base of layers whose excitatory neurons are held in range by inhibitory ones beside them."""

    def __init__(
        self,
        shape: tuple[int, ...],
        inputs: int,
        ratio: int,
        output: bool,
        ei_prop: bool,
        generator: torch.Generator | None,
    ) -> None:
        """For `shape` (neurons, ...) of the excitatory weights, each neuron with `inputs` synapses."""
        super().__init__()
        kind, neurons = type(self).__name__, shape[0]
        for name, number in (("inputs", inputs), ("neurons", neurons), ("ei_ratio", ratio)):
            if number < 1:
                raise Refusal(f"{kind}.{name}", expected="1 or more", got=repr(number), do="Count whole neurons.")
        self.fan_in, self.output, self.ei_prop = inputs, output, ei_prop
        inhibitory = max(1, neurons // ratio)
        self.excitatory = nn.Parameter(torch.empty(shape))
        self.inhibitory = nn.Parameter(torch.empty(inhibitory, *shape[1:]))
        self.lateral = nn.Parameter(torch.empty(neurons, inhibitory))
        if not output:
            self.gain = nn.Parameter(torch.empty(neurons))
            self.inhibitory_gain = nn.Parameter(torch.empty(inhibitory))
            self.bias = nn.Parameter(torch.empty(neurons))
        self._draw(*_SPIKES, generator)

    @abstractmethod
    def currents(self, x: Tensor, weight: Tensor) -> Tensor:
        """What neurons with these weights get from x [N, ...]."""

    @abstractmethod
    def mixed(self, x: Tensor, weight: Tensor) -> Tensor:
        """What neurons get from others at the same place, weight [to, from]."""

    @abstractmethod
    def along(self, values: Tensor) -> Tensor:
        """One value for each neuron, so that it broadcasts over currents."""

    @abstractmethod
    def refuse_shape(self, x: Tensor) -> None:
        """Refuse what is not a sequence of inputs."""

    def forward(self, x: Tensor) -> Tensor:
        self.refuse_shape(x)
        self._refuse_negative(x)
        # the two currents are large beside their difference: in 16 bits little would be left of it
        dtype = state_dtype(x)
        with unrounded(x):
            rows = x.flatten(0, 1).to(dtype)
            excited = self.currents(rows, self._positive(self.excitatory, dtype))
            inhibited = self.currents(rows, self._positive(self.inhibitory, dtype))
            lateral = self._positive(self.lateral, dtype, 1 / self.fan_in if self.ei_prop else 1.0)
            y = excited - self.mixed(inhibited, lateral)
            if not self.output:
                gain = self._positive(self.inhibitory_gain, dtype)
                shunt = self.mixed(inhibited * self.along(gain), lateral)
                y = y * self.along(self._positive(self.gain, dtype)) / _without_zeros(shunt)
                y = y + self.along(self.bias.to(dtype))
        return y.reshape(*x.shape[:2], *y.shape[1:]).to(x.dtype)

    @torch.no_grad()
    def init_from_batch(self, x: Tensor, generator: torch.Generator | None = None) -> None:
        """E-I Init: draw all weights so that inputs like x give currents of mean 0 and variance near 1.

        Raises: Refusal for inputs of another shape, below 0, or that don't vary.
        """
        self.refuse_shape(x)
        self._refuse_negative(x)
        rows = x.flatten(0, 1).to(torch.float64)
        mean, square, variance = rows.mean(), rows.square().mean(), rows.var(0, correction=0).mean()
        if not 0 < float(variance) < math.inf:
            raise Refusal(
                f"{type(self).__name__}.init_from_batch",
                expected="finite inputs that differ from sample to sample",
                got=f"mean {float(mean):g}, variance {float(variance):g} over {len(rows)} samples and steps",
                do="Give a batch of several samples; if the layer before is silent, give it more input.",
            )
        self._draw(float(mean), float(square), float(variance), generator)

    @torch.no_grad()
    def _draw(self, mean: float, square: float, variance: float, generator: torch.Generator | None) -> None:
        spread = square + variance
        scale = math.sqrt(variance / (self.fan_in * spread))
        for weight in (self.excitatory, self.inhibitory):
            weight.exponential_(1 / scale, generator=generator)
        self.lateral.fill_(1 / self.lateral.shape[1])
        if not self.output:
            self.gain.fill_(1.0)
            self.inhibitory_gain.fill_(math.sqrt(spread / self.fan_in) / mean)
            self.bias.zero_()

    def signed(self) -> list[nn.Parameter]:
        """The parameters that Dale's law holds at 0 or above: all but the biases."""
        return [p for name, p in self.named_parameters() if name != "bias"]

    def _positive(self, weight: Tensor, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
        if scale == 1.0 and _seen(weight) and float(weight.detach().amin()) >= 0:
            return weight.to(dtype)  # looking once costs less than a copy and two masks
        w: Tensor = _Positive.apply(weight, scale)  # type: ignore[no-untyped-call]
        return w.to(dtype)

    def _refuse_negative(self, x: Tensor) -> None:
        if not _seen(x):
            return
        lowest = float(x.detach().amin())
        if lowest < 0:
            raise Refusal(
                type(self).__name__,
                expected="inputs of 0 or more, so that a synapse keeps its sign",
                got=f"{lowest:g}",
                do="Give pixels from 0 to 1, not centred ones, and no augmentation that goes below 0.",
            )


def _seen(x: Tensor) -> bool:
    """Whether there are numbers to look at, and looking does not hold up a device."""
    traced = torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
    return x.device.type == "cpu" and x.numel() > 0 and not traced


def _without_zeros(shunt: Tensor) -> Tensor:
    """`shunt` [N, ...] with the smallest other value of the same sample for 0, past which the gradient goes straight.

    A sample of zeros alone gets infinity: its currents are then the biases.
    """
    if _seen(shunt) and float(shunt.detach().amin()) > 0:
        return shunt
    values = shunt.detach().flatten(1)
    zero = values == 0
    smallest = values.masked_fill(zero, math.inf).amin(1, keepdim=True) if values.shape[1] else values
    return shunt + torch.where(zero, smallest, 0.0).reshape(shunt.shape)


@torch.no_grad()
def clamp_dale(model: nn.Module) -> None:
    """Raise every negative weight and gain of the model's E-I layers to 0."""
    for module in model.modules():
        if isinstance(module, Lateral):
            for parameter in module.signed():
                parameter.clamp_(min=0)


def keep_dale(optimiser: torch.optim.Optimizer, model: nn.Module) -> RemovableHandle:
    """Have the optimiser clamp the weights of E-I layers to 0 or above after each of its steps; momentum stays as it is.

    This is the authors' training. Without it the layers' equation still takes a negative weight as 0, and its gradient
    is withheld where descent would lead further down.

    >>> import torch
    >>> from ranvier.nn.synapses.lateral_linear import EILinear
    >>> layer = EILinear(8, 4)
    >>> optimiser = torch.optim.SGD(layer.parameters(), lr=100.0)
    >>> handle = keep_dale(optimiser, layer)
    >>> layer(torch.rand(1, 5, 8)).sum().backward(); optimiser.step(); bool((layer.excitatory >= 0).all())
    True
    """
    return optimiser.register_step_post_hook(lambda *_: clamp_dale(model))


@torch.no_grad()
def ei_init(model: nn.Module, x: Tensor, generator: torch.Generator | None = None) -> nn.Module:
    """The model, its E-I layers initialised by one batch, each from what the layers before it, just initialised, give out.

    Input: x as the model takes it. Raises: Refusal where a layer's input is negative, silent or constant.

    >>> from ranvier.nn.synapses.lateral_linear import EILinear
    >>> layer = ei_init(EILinear(100, 50), torch.rand(2, 20, 100, generator=torch.Generator().manual_seed(0)))
    >>> layer(torch.rand(2, 20, 100)).std().round(decimals=0)
    tensor(1., grad_fn=<RoundBackward1>)
    """

    def first(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, Lateral)
        layer.init_from_batch(inputs[0], generator)

    hooks = [m.register_forward_pre_hook(first) for m in model.modules() if isinstance(m, Lateral)]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return model
