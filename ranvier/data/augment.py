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
    room = torch.tensor([len(samples.x[i]) - 1 for i in index])
    speed = drawn.minimum(room / length)
    start = torch.rand(count, generator=generator) * (room - speed * length).clamp_min(0)
    place = (start + speed * torch.arange(length)[:, None]).double().numpy()
    low = place.astype(np.int64)
    x = np.empty((length, count, *samples.x[0].shape[1:]), dtype=np.float32)
    for b, i in enumerate(index):
        share = (place[:, b] - low[:, b]).reshape(-1, *[1] * (x.ndim - 2)).astype(np.float32)
        below, above = samples.x[i][low[:, b]], samples.x[i][np.minimum(low[:, b] + 1, len(samples.x[i]) - 1)]
        x[:, b] = below + share * (above - below)
    y = torch.as_tensor(samples.y[np.asarray(index)], dtype=torch.int64)
    return Batch(torch.from_numpy(x), y, torch.full((count,), length)), speed


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
