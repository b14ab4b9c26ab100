"""Variations of events and of their frames that leave the class as it is; each draws from a generator that the caller gives.

Those of events take and give structured arrays in time order; those of frames take and give tensors [T, B, P, H, W].
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ranvier.core.checks import Refusal
from ranvier.data.events import Sensor, time_order


def drop_events(array: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Without each event with a chance of `share`.

    Source: F. Gu, W. Sng, X. Hu and F. Yu, EventDrop, IJCAI 2021, random drop.

    >>> from ranvier.data.events import events
    >>> len(drop_events(events(t=range(1000), x=[0] * 1000), 0.2, np.random.default_rng(0)))
    807
    """
    _require_share("drop_events", share)
    return array[generator.random(len(array)) >= share]


def drop_time(array: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Without the events of one interval, `share` of the recording long, anywhere in it.

    Source: F. Gu, W. Sng, X. Hu and F. Yu, EventDrop, IJCAI 2021, drop by time.

    >>> from ranvier.data.events import events
    >>> drop_time(events(t=range(10), x=[0] * 10), 0.3, np.random.default_rng(0))["t"].tolist()
    [0, 1, 2, 3, 4, 7, 8, 9]
    """
    _require_share("drop_time", share)
    if len(array) == 0:
        return array
    t = array["t"].astype(np.float64)
    span = t[-1] - t[0]
    begin = t[0] + generator.random() * (1 - share) * span
    kept: np.ndarray = array[(t < begin) | (t >= begin + share * span)]
    return kept


def drop_area(array: np.ndarray, sensor: Sensor, share: float, generator: np.random.Generator) -> np.ndarray:
    """Without the events of one rectangle, `share` of the width and of the height, anywhere on the sensor.

    Source: F. Gu, W. Sng, X. Hu and F. Yu, EventDrop, IJCAI 2021, drop by area.

    >>> from ranvier.data.events import events
    >>> drop_area(events(t=range(4), x=range(4)), Sensor(4), 0.5, np.random.default_rng(0))["x"].tolist()
    [0, 1]
    """
    _require_share("drop_area", share)
    inside = np.ones(len(array), dtype=bool)
    for axis, size in (("x", sensor.width), ("y", sensor.height)):
        if size is None:
            continue
        length = round(share * size)
        begin = int(generator.integers(size - length + 1))
        inside &= (array[axis] >= begin) & (array[axis] < begin + length)
    return array[~inside]


def jitter_time(array: np.ndarray, spread: float, generator: np.random.Generator) -> np.ndarray:
    """Each time moved by spread N(0, 1) microseconds, not below 0, and the events sorted anew.

    Source: G. Lenz et al., tonic 2021, TimeJitter.

    >>> from ranvier.data.events import events
    >>> jitter_time(events(t=[0, 100, 200], x=[0, 1, 2]), 10.0, np.random.default_rng(0))["t"].tolist()
    [1, 99, 206]
    """
    moved = array.copy()
    t = np.maximum(array["t"] + spread * generator.standard_normal(len(array)), 0)
    moved["t"] = t if moved["t"].dtype.kind == "f" else np.rint(t)
    return time_order(moved)


def shift(array: np.ndarray, sensor: Sensor, most: int, generator: np.random.Generator) -> np.ndarray:
    """All events moved by the same whole number of pixels, up to `most` along each axis; what leaves the sensor is lost.

    Source: Y. Li, Y. Kim, H. Park, T. Geller and P. Panda, Neuromorphic data augmentation, ECCV 2022, rolling.

    >>> from ranvier.data.events import events
    >>> shift(events(t=range(4), x=range(4)), Sensor(4), 2, np.random.default_rng(0))["x"].tolist()
    [2, 3]
    """
    moved, inside = array.copy(), np.ones(len(array), dtype=bool)
    for axis, size in (("x", sensor.width), ("y", sensor.height)):
        if size is not None:
            place = array[axis].astype(np.int64) + int(generator.integers(-most, most + 1))
            inside &= (place >= 0) & (place < size)
            moved[axis] = np.clip(place, 0, size - 1)
    return moved[inside]


def flip(array: np.ndarray, sensor: Sensor, generator: np.random.Generator, chance: float = 0.5) -> np.ndarray:
    """Mirrored from left to right, with a chance.

    >>> from ranvier.data.events import events
    >>> flip(events(t=[0, 1], x=[0, 3]), Sensor(4), np.random.default_rng(0), chance=1.0)["x"].tolist()
    [3, 0]
    """
    moved = array.copy()
    if generator.random() < chance:
        moved["x"] = sensor.width - 1 - array["x"].astype(np.int64)
    return moved


def flip_polarity(array: np.ndarray, generator: np.random.Generator, chance: float = 0.5) -> np.ndarray:
    """All polarities (0 and 1) exchanged, with a chance.

    >>> from ranvier.data.events import events
    >>> flip_polarity(events([0, 1], [0, 3], p=[0, 0]), np.random.default_rng(0), chance=1.0)["p"].tolist()
    [True, True]
    """
    moved = array.copy()
    if generator.random() < chance:
        moved["p"] = array["p"] == 0
    return moved


def reverse_time(array: np.ndarray, generator: np.random.Generator, chance: float = 0.5) -> np.ndarray:
    """Played backwards between the first and the last event, with a chance; what went up goes down, so p is exchanged.

    >>> from ranvier.data.events import events
    >>> reverse_time(events([5, 6, 9], [0, 1, 2], p=[0, 0, 1]), np.random.default_rng(0), chance=1.0).tolist()
    [(5, 2, False), (8, 1, True), (9, 0, True)]
    """
    if len(array) == 0 or generator.random() >= chance:
        return array.copy()
    moved = array[::-1].copy()
    moved["t"] = array["t"][0] + (array["t"][-1] - moved["t"])
    if "p" in (moved.dtype.names or ()):
        moved["p"] = moved["p"] == 0
    return moved


def denoise(array: np.ndarray, sensor: Sensor, window: int) -> np.ndarray:
    """The events that one of the eight pixels around them (two in a line) saw coming, `window` microseconds before or less.

    Source: T. Delbruck, Frame-free dynamic digital vision, 2008, background activity filter.

    >>> from ranvier.data.events import events
    >>> denoise(events(t=[0, 5, 90], x=[1, 2, 1], y=[1, 1, 0], p=[1, 0, 1]), Sensor(4, 4), 10)["t"].tolist()
    [5]
    """
    if len(array) == 0:
        return array
    t, x = array["t"].astype(np.int64), array["x"].astype(np.int64) + 1
    y = np.zeros(len(t), dtype=np.int64) if sensor.height is None else array["y"].astype(np.int64) + 1
    pixel = x + (sensor.width + 2) * y  # a border of one pixel, so that no neighbour is on the other side
    # in the order of pixels, then of events: the one before (neighbour, i) is the neighbour's last before event i
    order = np.argsort(pixel, kind="stable")
    key = pixel[order] * len(t) + order
    kept = np.zeros(len(t), dtype=bool)
    for dy in (0,) if sensor.height is None else (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dx or dy:
                near = pixel + dx + (sensor.width + 2) * dy
                last = order[np.searchsorted(key, near * len(t) + np.arange(len(t))) - 1]
                kept |= (pixel[last] == near) & (last < np.arange(len(t))) & (t - t[last] <= window)
    return array[kept]


def shift_frames(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each sample of x [T, B, P, H, W] moved by a whole number of pixels, up to `most` along each axis; zeros come in.

    Source: Y. Li, Y. Kim, H. Park, T. Geller and P. Panda, Neuromorphic data augmentation, ECCV 2022, rolling.

    >>> shift_frames(torch.ones(1, 1, 1, 2, 4), 1, torch.Generator().manual_seed(1)).sum().item()
    6.0
    """
    _require_frames("shift_frames", x)
    height, width = x.shape[-2:]
    dy, dx = torch.randint(-most, most + 1, (2, x.shape[1]), generator=generator).tolist()
    moved = torch.zeros_like(x)
    for b, (down, right) in enumerate(zip(dy, dx, strict=True)):
        if abs(down) < height and abs(right) < width:
            to = moved[:, b, :, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
            to.copy_(x[:, b, :, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)])
    return moved


def flip_frames(x: Tensor, generator: torch.Generator, chance: float = 0.5) -> Tensor:
    """Each sample of x [T, B, P, H, W] mirrored from left to right, with a chance.

    >>> flip_frames(torch.arange(3.0).reshape(1, 1, 1, 1, 3), torch.Generator(), chance=1.0).flatten()
    tensor([2., 1., 0.])
    """
    _require_frames("flip_frames", x)
    turned = (torch.rand(x.shape[1], generator=generator) < chance).to(x.device)
    return torch.where(turned.reshape(1, -1, 1, 1, 1), x.flip(-1), x)


def mix_frames(x: Tensor, y: Tensor, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random box of time, rows and columns of each sample replaced by its neighbour's; y as shares of classes [B, classes].

    The share of a class is that of its events among those that are there; the box takes a uniform share of the volume.
    A sample left without events keeps its class.

    Source: G. Shen, D. Zhao and Y. Zeng, EventMix, Information Sciences 2023, with a box for the mixture of Gaussians;
    S. Yun et al., CutMix, ICCV 2019.

    >>> x = torch.stack([torch.ones(4, 1, 8, 8), torch.zeros(4, 1, 8, 8)], 1)
    >>> mixed, shares = mix_frames(x, torch.tensor([0, 1]), 2, torch.Generator().manual_seed(0))
    >>> mixed.shape, shares.sum(1)
    (torch.Size([4, 2, 1, 8, 8]), tensor([1., 1.]))
    """
    _require_frames("mix_frames", x)
    count = x.shape[1]
    inside = torch.ones(count, 1, 1, 1, dtype=torch.bool)
    side = torch.rand(count, generator=generator) ** (1 / 3)
    for axis, size in enumerate((x.shape[0], *x.shape[-2:])):
        begin = torch.rand(count, generator=generator) * (1 - side) * size
        place = torch.arange(size) + 0.5
        within = (place >= begin[:, None]) & (place < (begin + side * size)[:, None])
        inside = inside & within.reshape(count, *(size if a == axis else 1 for a in range(3)))
    box = inside.permute(1, 0, 2, 3).unsqueeze(2).to(x.device)  # [T, B, 1, H, W]
    other = x.roll(1, 1)
    mixed = torch.where(box, other, x)
    events = mixed.abs().sum((0, 2, 3, 4))
    share = (torch.where(box, other, 0).abs().sum((0, 2, 3, 4)) / events).nan_to_num(0.0)[:, None]
    own = one_hot(y, classes).to(share.dtype)
    return mixed, torch.lerp(own, own.roll(1, 0), share)


def _require_share(subject: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise Refusal(subject, expected="a share from 0 to 1", got=f"{share}", do="Correct it.")


def _require_frames(subject: str, x: Tensor) -> None:
    if x.ndim != 5:
        do = "Give a batch of frames, as Samples.batch makes it."
        raise Refusal(subject, expected="frames [T, B, P, H, W]", got=f"shape {tuple(x.shape)}", do=do)
