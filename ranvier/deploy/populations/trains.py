"""What is said of recorded spikes: rates, how irregular their intervals are, how synchronous neurons fire."""

import numpy as np

from ranvier.deploy.populations.parts import Spikes


def rate(spikes: Spikes, dt: float) -> float:
    """Spikes a neuron and unit of time, in which a step takes `dt`.

    >>> rate(regular(period=10), dt=1e-3)
    100.0
    """
    return len(spikes) / (spikes.neurons * spikes.steps * dt)


def interval_variation(spikes: Spikes, least: int = 2) -> float:
    """The coefficient of variation of the intervals between a neuron's spikes, its mean over neurons with `least` or more.

    0 for a clock, 1 for a Poisson process.

    >>> interval_variation(regular(period=10))
    0.0
    """
    order = np.argsort(spikes.index.numpy(), kind="stable")
    index, t = spikes.index.numpy()[order], spikes.t.numpy()[order]
    same = np.diff(index) == 0
    interval, of = np.diff(t)[same].astype(np.float64), index[1:][same]
    number, total, squares = (np.bincount(of, w, spikes.neurons) for w in (None, interval, interval**2))
    enough = number >= least
    if not enough.any():
        return float("nan")
    mean = total[enough] / number[enough]
    variance = np.maximum(squares[enough] / number[enough] - mean**2, 0.0)
    return float((np.sqrt(variance) / mean).mean())


def synchrony(spikes: Spikes, bin_steps: int) -> float:
    """Variance over mean of the spikes of all neurons in bins of some steps: 1 for independent Poisson processes.

    >>> synchrony(regular(period=10), bin_steps=1)
    0.8...
    """
    bins = spikes.steps // bin_steps
    at = (spikes.t.numpy() - spikes.first) // bin_steps
    counts = np.bincount(at[at < bins], minlength=bins)
    return float(counts.var() / counts.mean()) if counts.any() else float("nan")


def later(spikes: Spikes, first: int) -> Spikes:
    """The spikes from step `first` of time on."""
    kept = spikes.t >= first
    return Spikes(spikes.t[kept], spikes.index[kept], spikes.neurons, spikes.first + spikes.steps - first, first)


def regular(period: int, neurons: int = 2, steps: int = 1000) -> Spikes:
    """Neurons that all fire once a period, for comparison; neuron i begins with step i.

    >>> regular(period=10, steps=30).t.tolist()
    [0, 1, 10, 11, 20, 21]
    """
    import torch

    found = [(t, i) for t in range(steps) for i in range(neurons) if t % period == i % period]
    t, index = (torch.tensor(v) for v in zip(*found, strict=True))
    return Spikes(t, index.to(torch.int32), neurons, steps)
