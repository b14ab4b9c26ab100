"""Variations of recorded signals that leave their class as it is; each draws from a generator that the caller gives."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from ranvier.data.samples import Batch, Samples

# turning about x, y and z: a vector times this is the matrix of its cross product with another
_AXES = torch.tensor([[0, 0, 0, 0, 0, -1, 0, 1, 0], [0, 0, 1, 0, 0, 0, -1, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0.0]])


def random_windows(
    samples: Samples, index: Sequence[int] | np.ndarray, length: int, generator: Generator, warp: float = 0.0
) -> tuple[Batch, Tensor]:
    """A window of `length` steps from a random place of each sample, at exp(warp N(0, 1)) times its speed; and the speeds.

    The speed is held within 0.6 to 1.6, and to what a sample is long enough for; values between steps are interpolated.
    x lies in memory as [B, ..., length], where operations along time and over channels are quickest.

    >>> a = Samples(x=[np.arange(50.0)[:, None]], y=np.array([0]), classes=("a",))
    >>> batch, speed = random_windows(a, [0, 0], 10, torch.Generator().manual_seed(0), warp=0.1)
    >>> batch.x.shape, torch.allclose(batch.x[1] - batch.x[0], speed[:, None])
    (torch.Size([10, 2, 1]), True)
    """
    numbers, count = np.asarray(index), len(index)
    room = samples.joined[2][numbers].astype(np.float32) - 1
    drawn = torch.exp(warp * torch.randn(count, generator=generator)).clamp(0.6, 1.6)
    speed = np.minimum(drawn.numpy(), room / length)
    start = torch.rand(count, generator=generator).numpy() * np.maximum(room - speed * length, 0)
    x = _between(samples, numbers, start[:, None] + speed[:, None] * np.arange(length, dtype=np.float32))
    y = torch.as_tensor(samples.y[numbers], dtype=torch.int64)
    return Batch(x, y, torch.full((count,), length)), torch.from_numpy(speed)


def rotation(spread: Sequence[float], count: int, generator: Generator) -> Tensor:
    """Rotations [count, 3, 3] about vectors drawn from a normal distribution with these spreads in radians.

    >>> turn = rotation((0.3, 0.1, 0.1), 2, torch.Generator().manual_seed(0))
    >>> torch.allclose(turn @ turn.mT, torch.eye(3), atol=1e-5)
    True
    """
    vector = torch.randn(count, 3, generator=generator) * torch.tensor(spread)
    angle = vector.norm(dim=1)[:, None, None]
    # Rodrigues' formula; sinc is sin(pi x) / (pi x), and right at 0
    turn = torch.cos(angle) * torch.eye(3)
    turn += torch.sinc(angle / math.pi) * (vector @ _AXES).reshape(count, 3, 3)
    turn += 0.5 * torch.sinc(angle / (2 * math.pi)) ** 2 * vector[:, :, None] * vector[:, None, :]
    return turn


def mixup(x: Tensor, y: Tensor, classes: int, most: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Each sample of x [T, B, ...] with a share of up to `most` of its neighbour, and y as shares of classes [B, classes].

    Source: Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018, with a uniform share.

    >>> x, y = mixup(torch.tensor([[[0.0], [1.0]]]), torch.tensor([0, 1]), 2, 0.5, torch.Generator().manual_seed(0))
    >>> torch.allclose(x[0, :, 0], y[:, 1])
    True
    """
    share = most * torch.rand(len(y), generator=generator)
    weight = share.reshape(1, -1, *[1] * (x.ndim - 2))
    mixed = torch.empty_like(x)
    for here, there in ((slice(1, None), slice(-1)), (slice(1), slice(-1, None))):  # as with roll, without its copy
        torch.lerp(x[:, here], x[:, there], weight[:, here], out=mixed[:, here])
    targets = one_hot(y, classes).float()
    return mixed, torch.lerp(targets, targets.roll(1, 0), share[:, None])


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
    numbers, count = np.asarray(index), len(index)
    last = samples.joined[2][numbers].astype(np.float32) - 1
    pace = torch.exp(warp * torch.randn(count, generator=generator)).numpy()
    lengths = np.maximum(np.rint((last + 1) * pace), 2)
    early, late = cut * torch.rand(2, count, generator=generator).numpy()
    steps = np.arange(lengths.max(), dtype=np.float32)
    place = (early * last)[:, None] + ((1 - early - late) * last / (lengths - 1))[:, None] * steps
    x = _between(samples, numbers, np.minimum(place, last[:, None])).contiguous()
    x[torch.from_numpy(steps[:, None] >= lengths)] = 0
    y = torch.as_tensor(samples.y[numbers], dtype=torch.int64)
    return Batch(x, y, torch.from_numpy(lengths.astype(np.int64)))


def _between(samples: Samples, index: np.ndarray, place: np.ndarray) -> Tensor:
    """The values [T, B, ...] of sequences at places [B, T] between their steps, by interpolation.

    They lie in memory as [B, ..., T].
    """
    flat, starts, lengths = samples.joined
    first, last = starts[index][:, None], (starts + lengths - 2)[index][:, None]
    low = np.maximum(np.minimum(first + place.astype(np.int64), last), 0)
    share = torch.from_numpy(place - (low - first).astype(np.float32))[:, None]
    at = torch.from_numpy(low.reshape(-1))
    steps = torch.from_numpy(flat.reshape(len(flat), -1))
    width, (step, feature) = steps.shape[1], steps.stride()
    if feature > step:  # each feature for itself in memory
        below, above = (steps.T.index_select(1, i).reshape(width, *low.shape).transpose(0, 1) for i in (at, at + 1))
    else:  # each step and the one after it are fetched as one
        pairs = steps.as_strided((len(steps) - 1, 2, width), (step, step, feature)).index_select(0, at)
        below, above = pairs.reshape(*low.shape, 2, width).permute(2, 0, 3, 1)
    x = torch.lerp(below.float(), above.float(), share, out=torch.empty(len(index), width, low.shape[1]))
    return x.reshape(len(index), *flat.shape[1:], -1).movedim(-1, 0)


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
