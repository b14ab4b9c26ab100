"""What theory says of a leaky integrate-and-fire neuron in noise, and of networks of them."""

import math
from collections.abc import Callable

import torch


def in_noise(
    mean: float, spread: float, tau: float, threshold: float, reset: float, refractory: float
) -> tuple[float, float]:
    """Rate and coefficient of variation of the intervals where the input is white noise of this mean and spread.

    rate = 1 / (refractory + tau sqrt(pi) I), I = integral of exp(u^2) (1 + erf u) from (reset - mean) / spread to
    (threshold - mean) / spread; CV^2 = 2 pi (rate tau)^2 times the double integral of exp(x^2) exp(y^2) (1 + erf y)^2, y < x.
    Source: Brunel, J. Comput. Neurosci. 2000, eq. 21 and appendix.

    >>> rate, variation = in_noise(21.0, 4.0, tau=20.0, threshold=20.0, reset=10.0, refractory=2.0)
    >>> f"{rate:.4f} {variation:.3f}"
    '0.0288 0.488'
    """
    low, high = (reset - mean) / spread, (threshold - mean) / spread
    u = torch.linspace(low, high, 4001, dtype=torch.float64)
    # exp(u^2) (1 + erf u) is erfcx(-u), so that nothing overflows below
    rate = 1 / (refractory + tau * math.sqrt(math.pi) * torch.trapezoid(torch.special.erfcx(-u), u).item())
    y = torch.linspace(low - 8.0, high, 8001, dtype=torch.float64)
    inner = torch.cumulative_trapezoid(torch.special.erfcx(-y).square() * torch.exp(-y.square()), y)
    x, inner = y[1:], inner.clamp_min(1e-300)
    outer = torch.where(x >= low, torch.exp(x.square() + inner.log()), 0.0)
    return rate, rate * tau * math.sqrt(2 * math.pi * torch.trapezoid(outer, x).item())


def stationary(answer: Callable[[float], float], most: float) -> float:
    """The rate between 0 and `most` at which a network answers with the rate it is driven with, by bisection.

    >>> f"{stationary(lambda rate: 1 - rate, 1.0):.6f}"
    '0.500000'
    """
    below, above = 0.0, most
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if answer(middle) > middle else (below, middle)
    return below
