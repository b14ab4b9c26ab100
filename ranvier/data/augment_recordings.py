"""A variation for recordings of which nothing is known but that they have a class."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator

from ranvier.data.augment_events import shift_frames
from ranvier.data.samples import Batch, Samples, pad


def random_crops(
    samples: Samples, index: Sequence[int] | np.ndarray, generator: Generator, pool: int = 1, noise: float = 0.1
) -> Batch:
    """Four fifths of each recording or more, from anywhere in it, with noise; frames of a camera moved by up to two pixels.

    The noise is that share of each feature's spread; lengths are multiples of `pool`, which those of the recordings are.

    >>> a = Samples(x=[np.arange(50.0)[:, None]], y=np.array([0]), classes=("a",))
    >>> x, y, lengths = random_crops(a, [0, 0], torch.Generator().manual_seed(0), pool=10, noise=0.0)
    >>> x.shape, lengths, x[0, :, 0]
    (torch.Size([50, 2, 1]), tensor([50, 40]), tensor([ 0., 10.]))
    """
    chosen = [torch.as_tensor(samples.x[i], dtype=torch.float32) for i in index]
    y = torch.as_tensor(samples.y[np.asarray(index)], dtype=torch.int64)
    if chosen[0].ndim == 4:
        x, lengths = pad(chosen)
        return Batch(shift_frames(x, 2, generator), y, lengths)
    for b, x in enumerate(chosen):
        share, place = torch.rand(2, generator=generator).tolist()
        length = max(1, round(len(x) * (1 - 0.2 * share) / pool)) * pool
        start = round(place * (len(x) - length))
        cut = x[start : start + length]
        chosen[b] = cut + noise * x.std(0, correction=0) * torch.randn(cut.shape, generator=generator)
    x, lengths = pad(chosen)
    return Batch(x, y, lengths)
