"""Variations of recorded signals that leave their class as it is; each draws from a generator that the caller gives."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from ranvier.data.samples import Batch, Samples


def random_windows(
    samples: Samples, index: Sequence[int] | np.ndarray, length: int, generator: Generator, warp: float = 0.0
) -> tuple[Batch, Tensor]:
    """A window of `length` steps from a random place of each sample, at exp(warp N(0, 1)) times its speed; and the speeds.

    The speed is held within 0.6 to 1.6, and to what a sample is long enough for; values between samples are linear.

    >>> a = Samples(x=[np.arange(50.0)[:, None]], y=np.array([0]), classes=("a",))
    >>> batch, speed = random_windows(a, [0, 0], 10, torch.Generator().manual_seed(0), warp=0.1)
    >>> batch.x.shape, torch.allclose(batch.x[1] - batch.x[0], speed[:, None])
    (torch.Size([10, 2, 1]), True)
    """
    count = len(index)
    drawn = torch.exp(warp * torch.randn(count, generator=generator)).clamp(0.6, 1.6)
    room = torch.from_numpy(samples.joined[2][np.asarray(index)] - 1)
    speed = drawn.minimum(room / length)
    start = torch.rand(count, generator=generator) * (room - speed * length).clamp_min(0)
    x = _between(samples, np.asarray(index), (start + speed * torch.arange(length)[:, None]).double())
    y = torch.as_tensor(samples.y[np.asarray(index)], dtype=torch.int64)
    return Batch(x, y, torch.full((count,), length)), speed


def rotation(spread: Sequence[float], count: int, generator: Generator) -> Tensor:
    """Rotations [count, 3, 3] about vectors drawn from a normal distribution with these spreads in radians.

    >>> turn = rotation((0.3, 0.1, 0.1), 2, torch.Generator().manual_seed(0))
    >>> torch.allclose(turn @ turn.mT, torch.eye(3), atol=1e-5)
    True
    """
    x, y, z = (torch.randn(count, 3, generator=generator) * torch.tensor(spread)).unbind(1)
    zero = torch.zeros(count)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(count, 3, 3)
    turn: Tensor = torch.linalg.matrix_exp(skew)
    return turn


def mixup(x: Tensor, y: Tensor, classes: int, most: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Each sample of x [T, B, ...] with a share of up to `most` of its neighbour, and y as shares of classes [B, classes].

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018, with a uniform share.

    >>> x, y = mixup(torch.tensor([[[0.0], [1.0]]]), torch.tensor([0, 1]), 2, 0.5, torch.Generator().manual_seed(0))
    >>> torch.allclose(x[0, :, 0], y[:, 1])
    True
    """
    share = most * torch.rand(len(y), generator=generator)
    targets = one_hot(y, classes).float()
    x = torch.lerp(x, x.roll(1, 1), share.reshape(1, -1, *[1] * (x.ndim - 2)))
    return x, torch.lerp(targets, targets.roll(1, 0), share[:, None])


def stretched(
    samples: Samples, index: Sequence[int] | np.ndarray, generator: Generator, warp: float = 0.15, cut: float = 0.1
) -> Batch:
    """Whole sequences at another speed, with up to the share `cut` missing at either end: a batch of unequal lengths.

    Each length is multiplied by exp(warp n), n standard normal; values between steps are interpolated.

    >>> a = Samples(x=[np.arange(20.0)[:, None]], y=np.array([0]), classes=("a",))
    >>> batch = stretched(a, [0, 0], torch.Generator().manual_seed(0))
    >>> batch.lengths.tolist(), batch.x[0, :, 0]
    ([25, 19], tensor([0.5841, 1.2047]))
    """
    numbers = np.asarray(index)
    last = torch.from_numpy(samples.joined[2][numbers] - 1).double()
    pace = torch.exp(warp * torch.randn(len(numbers), generator=generator)).double()
    lengths = ((last + 1) * pace).round().clamp_min(2).long()
    early, late = (cut * torch.rand(2, len(numbers), generator=generator).double()).unbind(0)
    steps = torch.arange(int(lengths.max()))[:, None]
    place = early * last + steps * ((1 - early - late) * last / (lengths - 1))
    x = _between(samples, numbers, torch.minimum(place, last))
    x[steps >= lengths] = 0
    return Batch(x, torch.as_tensor(samples.y[numbers], dtype=torch.int64), lengths)


def _between(samples: Samples, index: np.ndarray, place: Tensor) -> Tensor:
    """The values [T, B, ...] of sequences at places [T, B] between their steps, by interpolation."""
    flat, starts, lengths = samples.joined
    low = place.long().numpy()
    share = (place.numpy() - low).astype(np.float32).reshape(*low.shape, *[1] * (flat.ndim - 1))
    below = flat[starts[index] + low].astype(np.float32)
    above = flat[starts[index] + np.minimum(low + 1, lengths[index] - 1)].astype(np.float32)
    return torch.from_numpy(below + share * (above - below))


def bent(x: Tensor, spread: float, generator: Generator) -> Tensor:
    """The bands of x [T, B, bands] moved along the frequency axis, for each sample by another factor exp(spread n).

    A longer vocal tract shifts all resonances by a factor; on bands spaced in mel that is close to this stretch.
    Source: N. Jaitly and G. Hinton, ICML workshop 2013 (vocal tract length perturbation).

    >>> bent(torch.arange(4.0).reshape(1, 1, 4), 0.1, torch.Generator().manual_seed(0))
    tensor([[[0.0000, 1.1666, 2.3332, 3.0000]]])
    """
    bands = x.shape[2]
    factor = torch.exp(spread * torch.randn(x.shape[1], 1, generator=generator))
    place = (torch.arange(bands) * factor).clamp(0, bands - 1)
    low = place.floor().long()
    share = place - low
    below, above = (x.gather(2, at.expand(len(x), -1, -1)) for at in (low, (low + 1).clamp_max(bands - 1)))
    return below + share * (above - below)


def hidden(x: Tensor, lengths: Tensor, value: Tensor, bands: int, steps: int, generator: Generator) -> Tensor:
    """x [T, B, F] with up to `bands` neighbouring bands and up to `steps` neighbouring steps of each sample set to `value`.

    Source: Park et al., Interspeech 2019 (SpecAugment), one mask of each kind.

    >>> x = hidden(torch.ones(5, 1, 4), torch.tensor([5]), torch.zeros(4), 2, 2, torch.Generator().manual_seed(1))
    >>> x[:, 0].sum(0), x[:, 0].sum(1)
    (tensor([5., 0., 5., 5.]), tensor([3., 3., 3., 3., 3.]))
    """

    def covered(size: int, most: int, room: Tensor) -> Tensor:
        width = torch.randint(0, most + 1, (x.shape[1],), generator=generator)
        start = (torch.rand(x.shape[1], generator=generator) * (room - width + 1).clamp_min(1)).long()
        place = torch.arange(size)[:, None]
        return (place >= start) & (place < start + width)

    masked = (
        covered(x.shape[2], bands, torch.full_like(lengths, x.shape[2])).T | covered(len(x), steps, lengths)[..., None]
    )
    return torch.where(masked, value, x)
