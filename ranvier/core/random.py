"""Counter-based random numbers: what is drawn depends on (seed, step, element) alone, never on call order or backend."""

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four 32-bit words (as int64) from a 128-bit counter and a 64-bit key.

    Source: Salmon, Moraes, Dror and Shaw, SC 2011.

    >>> zero = torch.zeros(1, dtype=torch.int64)
    >>> [f"{int(w):08x}" for w in philox((zero,) * 4, (zero, zero))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        # int64 wraps, and the shift's sign bits are masked off: the words are those of the unsigned product
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) & _MASK ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) & _MASK ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seed: Tensor, step: Tensor, element: Tensor) -> Tensor:
    """Float32 uniform in [0, 1) with 24 random bits, for int64 seed, step and element that broadcast together.

    >>> one = torch.ones(1, dtype=torch.int64)
    >>> bool(uniform(one, one, one) == uniform(one, one, torch.arange(3))[1])
    True
    """
    seed, step, element = torch.broadcast_tensors(seed, step, element)  # type: ignore[no-untyped-call]
    zero = torch.zeros_like(step)
    words = philox((element & _MASK, (element >> 32) & _MASK, step & _MASK, zero), (seed & _MASK, (seed >> 32) & _MASK))
    return (words[0] >> 8).to(torch.float32) * 2.0**-24
