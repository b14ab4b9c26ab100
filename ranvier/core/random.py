"""Counter-based random numbers: what is drawn depends on (seed, step, element) alone, never on call order or backend."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
ROUNDS = 7


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-7: four 32-bit words (as int64) from a 128-bit counter and a 64-bit key.

    Seven rounds are the fewest that pass BigCrush; ten cost a third of a random neuron's time on a GPU.
    Source: Salmon, Moraes, Dror and Shaw, SC 2011, table 2.

    >>> zero = torch.zeros(1, dtype=torch.int64)
    >>> [f"{int(w):08x}" for w in philox((zero,) * 4, (zero, zero))]
    ['5f6fb709', '0d893f64', '4f121f81', '4f730a48']
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(ROUNDS):
        # int64 wraps, and the shift's sign bits are masked off: the words are those of the unsigned product
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32) & _MASK ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) & _MASK ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seed: Tensor, step: Tensor, element: Tensor, stream: int = 0) -> Tensor:
    """Float32 uniform in [0, 1) with 24 random bits, for int64 seed, step and element that broadcast together.

    `stream` tells apart several draws of one step. An element is below 2^32.

    >>> one = torch.ones(1, dtype=torch.int64)
    >>> bool(uniform(one, one, one) == uniform(one, one, torch.arange(3))[1])
    True
    """
    words = _words(seed, step, element, stream)
    return (words[0] >> 8).to(torch.float32) * 2.0**-24


def normal(seed: Tensor, step: Tensor, element: Tensor, stream: int = 0) -> Tensor:
    """Float32 standard normal, by Box and Muller from two uniforms of one draw.

    >>> one = torch.ones(1, dtype=torch.int64)
    >>> z = normal(one, one, torch.arange(100_000)); f"{z.mean():.2f} {z.std():.2f}".replace("-0.00", "0.00")
    '0.00 1.00'
    """
    words = _words(seed, step, element, stream)
    a = ((words[0] >> 8).to(torch.float32) + 1) * 2.0**-24  # in (0, 1], so that its logarithm is finite
    b = (words[1] >> 8).to(torch.float32) * 2.0**-24
    return torch.sqrt(-2 * torch.log(a)) * torch.cos((2 * math.pi) * b)


def _words(seed: Tensor, step: Tensor, element: Tensor, stream: int) -> tuple[Tensor, ...]:
    seed, step, element = torch.broadcast_tensors(seed, step, element)  # type: ignore[no-untyped-call]
    counter = (element & _MASK, torch.full_like(step, stream), step & _MASK, torch.zeros_like(step))
    return philox(counter, (seed & _MASK, (seed >> 32) & _MASK))


class Draws:
    """The random numbers of a sequence, step by step: for seed [B] and first step [B], one for each of the features.

    >>> draws = Draws(torch.tensor([7]), torch.tensor([0]), (3,))
    >>> first = draws.uniform(); draws.next_step(); bool((draws.uniform() == first).any())
    False
    """

    def __init__(self, seed: Tensor, step: Tensor, features: Sequence[int]) -> None:
        ones = [1] * len(features)
        self.seed, self.step = seed.reshape(-1, *ones), step.reshape(-1, *ones)
        self.element = torch.arange(math.prod(features), device=seed.device).reshape(tuple(features))
        self.stream = 0

    def uniform(self) -> Tensor:
        """The next uniform draw of this step, [B, ...features]."""
        self.stream += 1
        return uniform(self.seed, self.step, self.element, self.stream - 1)

    def normal(self) -> Tensor:
        """The next normal draw of this step, [B, ...features]."""
        self.stream += 1
        return normal(self.seed, self.step, self.element, self.stream - 1)

    def next_step(self) -> None:
        """Go on to the next step."""
        self.step, self.stream = self.step + 1, 0


def fresh_seeds(batch: int, device: torch.device, seed: int | None = None) -> Tensor:
    """A seed for each sample: from torch's generator, or counted up from a number that only `seed` leads to."""
    if seed is None:
        return torch.randint(2**62, (batch,), device=device)
    return seed * 0x9E3779B97F4A7C15 % 2**62 + torch.arange(batch, device=device)
