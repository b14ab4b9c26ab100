"""Networks whose tokens are mixed by Legendre memories: LMUFormer, real and spiking, and L2MU classifiers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful
from ranvier.nn.coding.rate import RateDecoder
from ranvier.nn.fold import Fold
from ranvier.nn.neurons.lif import LIF
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.surrogates import Sigmoid
from ranvier.nn.synapses.linear import Linear
from ranvier.nn.synapses.scale import Scale
from ranvier.nn.units.legendre_memory import LegendreMemory
from ranvier.nn.units.spiking_legendre_memory import SpikingLegendreMemory, leaky


class TimeConv(Stateful):
    """A convolution over three steps: the last, this and the next one, or, `causal`, this one and the two before.

    y[t] = W_0 x[t-1] + W_1 x[t] + W_2 x[t+1], each W [out_channels, in_channels]; causal y[t] = W_0 x[t-2] + ...

    Input: [T, B, in_channels]. Output: [T, B, out_channels].
    Raises: Refusal for another shape and, when not causal, for a state to continue from.

    >>> TimeConv(3, 5, causal=True)(torch.zeros(4, 2, 3)).shape
    torch.Size([4, 2, 5])
    """

    def __init__(self, in_channels: int, out_channels: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.conv = nn.Conv1d(in_channels, out_channels, 3, bias=False)

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        channels = self.conv.in_channels
        if x.ndim != 3 or x.shape[2] != channels:
            raise Refusal(
                "TimeConv",
                expected=f"[T, B, {channels}], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis with unsqueeze, or make in_channels fit.",
            )
        return {"past": x.new_zeros(x.shape[1], 2, channels)} if self.causal else {}

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        state = self.rest(x)
        return self.advance(x, state) if self.causal else (self._convolved(functional.pad(x, (0, 0, 0, 0, 1, 1))), {})

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if not self.causal:
            raise Refusal(
                "TimeConv",
                expected="a whole sequence, since it looks one step ahead",
                got="a chunk with a state to continue from",
                do="Run the sequence at once, or build the network with causal=True.",
            )
        line = torch.cat([state["past"].transpose(0, 1).to(x.dtype), x])
        past = line[len(x) :].transpose(0, 1).to(state["past"].dtype, copy=True)
        return self._convolved(line), {"past": past}

    def _convolved(self, line: Tensor) -> Tensor:
        if len(line) < 3:
            return line.new_zeros(0, line.shape[1], self.conv.out_channels)
        y: Tensor = self.conv(line.permute(1, 2, 0))
        return y.permute(2, 0, 1)


class LegendreUnit(nn.Module):
    """A Legendre memory of one signal, and what is made of it: all steps at once.

    u[t] = f_u(W_u x[t]); m[t] = f_m(A m[t-1] + B u[t]); h[t] = f_h(W_h [m[t], x[t]]).
    Real f_u and f_h are ReLU and f_m leaves m as it is; spiking ones are a batch norm and LIF neurons each.

    Input: [T, B, features]. Output: h [T, B, hidden].
    Raises: Refusal for another number of features.
    Source: Liu, Datta, Li and Beerel, ICLR 2024 (LMUFormer).

    >>> LegendreUnit(4, 6, order=8, window=10, spiking=True)(torch.zeros(5, 2, 4)).shape
    torch.Size([5, 2, 6])
    """

    def __init__(self, features: int, hidden: int, *, order: int, window: float, spiking: bool) -> None:
        super().__init__()
        self.signal = Linear(features, 1)
        self.memory = LegendreMemory(order, window)
        self.combine = Linear(order + features, hidden)
        self.f_u, self.f_h = (_fired(n) if spiking else nn.ReLU() for n in (1, hidden))
        self.f_m = _fired(order) if spiking else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        u = self.f_u(self.signal(x))
        m = self.f_m(self.memory(u).flatten(2))
        h: Tensor = self.f_h(self.combine(torch.cat([m, x], dim=2)))
        return h


class Residual(nn.Module):
    """y = x + inner(x)."""

    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.inner(x)
        return y


def lmuformer(
    inputs: int = 128,
    classes: int = 35,
    dim: int = 256,
    depth: int = 1,
    window: float = 128,
    *,
    spiking: bool = False,
    causal: bool = False,
) -> nn.Sequential:
    """LMUFormer for sequences [T, B, inputs], as for Speech Commands by default; its time axis is the neurons' time too.

    The convolutions of its stem look five steps ahead in all, unless `causal`.
    Source: Liu, Datta, Li and Beerel, ICLR 2024; the spiking one with shortcuts between membranes.

    >>> [sum(p.numel() for p in lmuformer(spiking=s).parameters()) for s in (False, True)]
    [1621796, 1689894]
    """
    layers: list[nn.Module] = []
    for k in range(4):
        layers.append(TimeConv(inputs if k == 0 else dim, dim, causal))
        if not spiking:
            layers += [nn.ReLU(), _norm(dim)]
        elif k < 3:
            layers.append(_fired(dim))
    layers.append(Residual(*([_fired(dim)] if spiking else []), TimeConv(dim, dim, causal)))
    for _ in range(depth):
        layers += _spiking_block(dim, window) if spiking else _real_block(dim, window)
    head = [_fired(dim)] if spiking else []
    return nn.Sequential(*layers, *head, Linear(dim, classes), RateDecoder())


def _real_block(dim: int, window: float) -> list[nn.Module]:
    mixer = LegendreUnit(dim, dim, order=dim, window=window, spiking=False)
    channels = [Linear(dim, 4 * dim), _norm(4 * dim), nn.GELU(), Linear(4 * dim, dim), _norm(dim), nn.ReLU()]
    return [Residual(mixer, Linear(dim, dim), _norm(dim)), Residual(*channels)]


def _spiking_block(dim: int, window: float) -> list[nn.Module]:
    mixer = LegendreUnit(dim, dim, order=2 * dim, window=window, spiking=True)
    channels = [_fired(dim), Linear(dim, 4 * dim), _fired(4 * dim), Linear(4 * dim, dim)]
    return [Residual(_fired(dim, threshold=0.5), mixer, Linear(dim, dim), _norm(dim)), Residual(*channels)]


def _norm(features: int) -> Fold:
    return Fold(nn.BatchNorm1d(features))


def _fired(features: int, threshold: float = 1.0) -> nn.Sequential:
    """A batch norm and LIF neurons: tau 2, reset to 0 without a gradient, surrogate sigmoid(4 u)."""
    neurons = LIF(tau=2.0, threshold=threshold, detach_reset=True, surrogate=Sigmoid(width=0.8814))
    return nn.Sequential(_norm(features), neurons)


def prefix_scores(model: nn.Sequential, x: Tensor) -> Tensor:
    """The scores that the model gives after each number of steps: [T, B, classes].

    Input: x [T, B, inputs]; a model that ends in the mean over time, as `lmuformer` does.

    >>> model = lmuformer(4, 3, dim=8, window=6, spiking=True, causal=True).eval()
    >>> x = torch.randn(6, 2, 4)
    >>> scores = prefix_scores(model, x)
    >>> bool(torch.allclose(scores[-1], model(x), atol=1e-6)), bool(torch.allclose(scores[3], model(x[:4]), atol=1e-6))
    (True, True)
    """
    scores = model[:-1](x)
    counts = torch.arange(1, len(x) + 1, device=x.device, dtype=scores.dtype)
    mean: Tensor = scores.cumsum(0) / counts[:, None, None]
    return mean


def spike_input(inputs: int, widths: Sequence[int], tau: float = 5.0) -> nn.Sequential:
    """Layers of LIF neurons with decays of their own that turn signals [T, B, inputs] into spikes.

    >>> spike_input(6, (8, 8))(torch.randn(5, 2, 6)).shape
    torch.Size([5, 2, 8])
    """
    layers: list[nn.Module] = []
    for width in widths:
        norm = nn.BatchNorm1d(width)
        nn.init.constant_(norm.weight, 4.0)  # currents that pass the threshold often enough to learn from
        taus = nn.Parameter(torch.empty(width).uniform_(1.0, tau))
        neurons = LIF(tau=taus, reset_mode="subtract", discretisation="exact")
        layers += [Linear(inputs, width, bias=False), Fold(norm), neurons]
        inputs = width
    return nn.Sequential(*layers)


def l2mu(
    inputs: int,
    classes: int,
    *,
    widths: Sequence[int] = (48, 48, 48),
    memories: int = 48,
    order: int = 4,
    window: float = 10,
    hidden: int = 96,
    neuron: Callable[[], Neuron] = leaky,
    memory_neuron: Callable[[], Neuron] | None = None,
    matrices: tuple[Tensor, Tensor] | None = None,
) -> nn.Sequential:
    """An L2MU classifier of signals [T, B, inputs]: layers that turn them into spikes, the unit, and output neurons.

    The scores are the output neurons' spikes per step, times 10.

    >>> l2mu(6, 7, hidden=16, memories=8)(torch.randn(20, 2, 6)).shape
    torch.Size([2, 7])
    """
    unit = SpikingLegendreMemory(
        widths[-1],
        hidden,
        memories=memories,
        order=order,
        window=window,
        neuron=neuron,
        memory_neuron=memory_neuron,
        matrices=matrices,
    )
    return nn.Sequential(
        spike_input(inputs, widths), unit, Linear(hidden, classes, bias=False), neuron(), RateDecoder(), Scale(10.0)
    )


class _Mask(nn.Module):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def pruned(model: nn.Module, share: float) -> nn.Module:
    """The model without the smallest `share` of the weights of its linear layers; in training they stay away.

    Raises: Refusal for a share that is none. Source: Han, Pool, Tran and Dally, NeurIPS 2015 (pruning by magnitude).

    >>> float((pruned(nn.Linear(4, 5), 0.5).weight == 0).float().mean())
    0.5
    """
    if not 0 <= share < 1:
        raise Refusal("pruned", expected="a share from 0 to 1", got=f"{share}", do="With 1 no weight would be left.")
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    sizes = torch.cat([layer.weight.detach().abs().flatten() for layer in layers])
    order = sizes.argsort()
    keep = torch.ones_like(sizes)
    keep[order[: int(share * len(sizes))]] = 0.0
    for layer, mask in zip(layers, torch.split(keep, [layer.weight.numel() for layer in layers]), strict=True):
        parametrize.register_parametrization(layer, "weight", _Mask(mask.reshape(layer.weight.shape)))
    return model
