"""Networks for labelled recordings of any kind: spiking ones, and artificial ones of equal size beside them."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.state import lengths_of, retime
from ranvier.nn.coding.rate import RateDecoder
from ranvier.nn.fold import Fold
from ranvier.nn.neurons.leaky_integrator import LeakyIntegrator
from ranvier.nn.neurons.lif import LIF
from ranvier.nn.surrogates import Arctan
from ranvier.nn.synapses.conv import Conv2d
from ranvier.nn.synapses.delay_line import DelayLine
from ranvier.nn.synapses.linear import Linear
from ranvier.nn.synapses.pool import SumPool2d
from ranvier.nn.synapses.scale import Scale

_DELAYS = [0, 1, 2, 4]


class Standardise(nn.Module):
    """Each feature less its mean, times a scale; zero past the end of a sequence.

    y[t] = s (x[t] - m). The mean and scale are kept with the weights: those of the training data.

    Input: [T, B, *features]. Output: same shape. Raises: Refusal for other features.

    >>> standard = Standardise((2,))
    >>> standard.learn([np.array([[1.0, 5.0], [3.0, 5.0]])])(torch.tensor([[[4.0, 5.0]]]))
    tensor([[[2., 0.]]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        # the pixels of a camera share their polarity's
        shared = self.shape if len(self.shape) == 1 else (self.shape[0], 1, 1)
        self.register_buffer("mean", torch.zeros(shared))
        self.register_buffer("scale", torch.ones(shared))

    def learn(self, recordings: Iterable[np.ndarray]) -> "Standardise":
        """Itself, with the mean and 1 / spread of each feature over all steps; a camera's empty pixels stay at 0."""
        count, total, squares = 0, 0.0, 0.0
        for x in recordings:
            flat = x.astype(np.float64).reshape(len(x), self.shape[0], -1)
            count, total, squares = count + flat[:, 0].size, total + flat.sum((0, 2)), squares + (flat**2).sum((0, 2))
        mean = np.zeros(self.shape[0]) if len(self.shape) > 1 else total / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        flat_channel = spread <= 1e-6 * np.maximum(np.abs(mean), 1e-6)  # a constant tells nothing
        scale = np.where(flat_channel, 0.0, 1 / np.where(flat_channel, 1.0, spread))
        for buffer, values in ((self.mean, mean), (self.scale, scale)):
            buffer.copy_(torch.from_numpy(values).reshape(buffer.shape))
        return self

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != self.shape:
            shape = ", ".join(map(str, self.shape))
            do = "Give recordings like those trained on."
            raise Refusal("Standardise", expected=f"[T, B, {shape}]", got=f"shape {tuple(x.shape)}", do=do)
        real = torch.arange(len(x), device=x.device)[:, None] < lengths_of(x)
        y = (x - self.mean.to(x.dtype)) * self.scale.to(x.dtype)
        return y.masked_fill(~real.reshape(*real.shape, *[1] * (x.ndim - 2)), 0.0)

    def extra_repr(self) -> str:
        return f"{self.shape}"


class Bins(nn.Module):
    """The mean and the spread of each feature in runs of `size` steps: what is faster than a run shows in its spread.

    m[t] = mean of x over steps size t to size t + size - 1, s[t]^2 = mean of (x - m[t])^2 there; y = [m, s].

    Input: [T, B, features]. Output: [T / size, B, 2 features]. Raises: Refusal when T is no multiple of size.

    >>> Bins(2)(torch.tensor([1.0, 3.0, 4.0, 4.0]).reshape(4, 1, 1)).squeeze(1)
    tensor([[2., 1.],
            [4., 0.]])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if len(x) % self.size:
            do = "Cut the sequence, or the chunks of a stream, to such a multiple."
            raise Refusal("Bins", expected=f"a multiple of {self.size} steps", got=f"{len(x)}", do=do)
        retime(lambda lengths: lengths // self.size)
        x = x.reshape(-1, self.size, *x.shape[1:])
        return torch.cat([x.mean(1), x.var(1, correction=0).sqrt()], -1)

    def extra_repr(self) -> str:
        return f"{self.size}"


class _GRU(nn.GRU):
    """The hidden state of every step."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y: Tensor = super().forward(x)[0]
        return y


def spiking(shape: Sequence[int], pool: int, classes: int, width: int) -> nn.Sequential:
    """The spiking network for recordings [T, *shape]: two layers of LIF, convolutions where there are pixels.

    >>> spiking((6,), 10, 3, 32)(torch.randn(100, 2, 6)).shape
    torch.Size([2, 3])
    """
    if _pixels(shape):
        return _convolutions(shape, classes, width, lambda: LIF(tau=2.0, surrogate=Arctan(width=1.0)))
    layers, features = _sequence(shape, pool)
    layers.append(DelayLine(_DELAYS))
    for inputs in (features * len(_DELAYS), width):
        norm = nn.BatchNorm1d(width)
        nn.init.constant_(norm.weight, 4.0)  # currents that pass the threshold often enough to learn from
        tau = nn.Parameter(torch.empty(width).uniform_(1.0, 5.0))
        neurons = LIF(tau=tau, reset_mode="subtract", discretisation="exact")
        layers += [Linear(inputs, width, bias=False), Fold(norm), neurons]
    readout = LeakyIntegrator(tau=5.0, discretisation="exact")
    return nn.Sequential(*layers, Linear(width, classes), readout, RateDecoder(), Scale(5.0))


def artificial(shape: Sequence[int], pool: int, classes: int, width: int) -> nn.Sequential:
    """What stands beside it with as many parameters: a GRU, or the convolutions with ReLU.

    >>> sizes = [sum(p.numel() for p in make((6,), 1, 3, 32).parameters()) for make in (spiking, artificial)]
    >>> abs(sizes[1] / sizes[0] - 1) < 0.1
    True
    """
    if _pixels(shape):
        return _convolutions(shape, classes, width, nn.ReLU)
    layers, features = _sequence(shape, pool)
    wanted = width * (features * len(_DELAYS) + width + 6 + classes) + classes

    def size(hidden: int) -> int:
        return 3 * hidden * (features + hidden + 2) + (hidden + 1) * classes

    hidden = min(range(1, 4 * width), key=lambda h: abs(size(h) - wanted))
    return nn.Sequential(*layers, _GRU(features, hidden), Linear(hidden, classes), RateDecoder())


def _pixels(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and min(shape[1:]) >= 4


def _sequence(shape: Sequence[int], pool: int) -> tuple[list[nn.Module], int]:
    """What comes first, and how many features it leaves."""
    layers: list[nn.Module] = [Standardise(shape)]
    if len(shape) > 1:
        layers.append(nn.Flatten(2))
    features = int(np.prod(shape))
    return (layers, features) if pool == 1 else ([*layers, Bins(pool)], 2 * features)


def _convolutions(shape: Sequence[int], classes: int, width: int, neuron: Callable[[], nn.Module]) -> nn.Sequential:
    inputs, height, wide = shape
    few, many = max(1, width // 6), max(1, width // 3)
    spikes = neuron is not nn.ReLU
    return nn.Sequential(
        Standardise(shape),
        Conv2d(inputs, few, 3, padding=1, bias=False),
        Fold(nn.BatchNorm2d(few)),
        neuron(),
        SumPool2d(2),
        Conv2d(few, many, 3, padding=1, bias=False),
        Fold(nn.BatchNorm2d(many)),
        neuron(),
        SumPool2d(2),
        nn.Flatten(2),
        Linear(many * (height // 4) * (wide // 4), classes),
        LeakyIntegrator(tau=4.0) if spikes else nn.Identity(),
        RateDecoder(),
    )
