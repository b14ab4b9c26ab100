"""The synapses of a network in memory: for each population that they lead to, by block of targets, delay and source."""

from dataclasses import dataclass

import numpy as np
import torch

from ranvier.core.checks import Refusal
from ranvier.deploy.populations import delivery
from ranvier.deploy.populations.connections import per_synapse
from ranvier.deploy.populations.parts import Parts


@dataclass(frozen=True, eq=False)
class Bundle:
    """Synapses of one projection that have one delay: those from source i to block b are starts[b, i] to starts[b, i + 1], from bases[b] on."""

    source: str
    target: str
    onto: str
    delay: int
    weights: np.ndarray
    """One for all, or one for each."""
    starts: np.ndarray
    bases: np.ndarray
    targets: np.ndarray
    """Numbered from the first neuron that is simulated here."""


@dataclass(frozen=True, eq=False)
class Wiring:
    """All synapses onto the neurons that are simulated here, a range of each population."""

    ranges: dict[str, tuple[int, int]]
    bounds: dict[str, np.ndarray]
    """Where the blocks of each population's range begin, and the end of the last."""
    bundles: dict[str, list[Bundle]]
    """By the population that they lead to, in the order in which they are delivered."""
    shortest: int
    longest: dict[str, int]
    """By the population that they come from: for how many steps its spikes are still needed."""

    @property
    def synapses(self) -> int:
        return sum(len(b.targets) for some in self.bundles.values() for b in some)


def wire(network: Parts, ranges: dict[str, tuple[int, int]], block: int) -> Wiring:
    """Draw or take over the synapses of a network onto these ranges of its populations, in blocks of so many neurons."""
    bounds = {k: np.array([*range(0, high - low, block), high - low]) for k, (low, high) in ranges.items()}
    bundles: dict[str, list[Bundle]] = {k: [] for k in network.populations}
    shortest, longest = 1 << 30, dict.fromkeys(network.populations, 0)
    for number, projection in enumerate(network.projections):
        subject = f"Projection {projection.source} -> {projection.target}"
        low, high = ranges[projection.target]
        sources, targets = (network.populations[k].size for k in (projection.source, projection.target))
        made = projection.connection
        source, target, which = made.synapses(sources, targets, low, high, (network.seed, number))
        given = len(np.asarray(getattr(made, "source", ())))
        weights = per_synapse(f"{subject}.weight", projection.weight, made.drawn, given).astype(np.float32)
        delays = per_synapse(f"{subject}.delay", projection.delay, made.drawn, given)
        if len(delays):  # of all synapses, here and in other processes: what a window's length follows from
            shortest = min(shortest, int(delays.min()))
            longest[projection.source] = max(longest[projection.source], int(delays.max()))
        weights, delays = (a if len(a) == 1 else a[which] for a in (weights, delays))
        for delay in np.unique(delays).tolist():
            some = slice(None) if len(delays) == 1 else np.flatnonzero(delays == delay)
            each = weights if len(weights) == 1 else weights[some]
            bundle = _bundle(source[some], target[some] - low, each, sources, bounds[projection.target], block, subject)
            bundles[projection.target].append(
                Bundle(projection.source, projection.target, projection.onto, delay, *bundle)
            )
    return Wiring(ranges, bounds, bundles, shortest, longest)


def _bundle(
    source: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    sources: int,
    bounds: np.ndarray,
    block: int,
    subject: str,
) -> tuple[np.ndarray, ...]:
    blocks = len(bounds) - 1
    if len(source) >= 1 << 31:
        raise Refusal(
            subject,
            expected="fewer than 2^31 synapses of one delay",
            got=str(len(source)),
            do="Divide it into several projections.",
        )
    place = np.repeat(np.arange(blocks, dtype=np.int32), np.diff(bounds))
    starts, bases = np.zeros((blocks, sources + 1), np.int32), np.zeros(blocks, np.int64)
    order = np.empty(len(source), np.int64)
    source, target = np.ascontiguousarray(source), np.ascontiguousarray(target)
    delivery.sort(1, 0, *map(torch.from_numpy, (source, target, place, starts, bases, order)))
    each = weights if len(weights) == 1 else weights[order]
    return np.ascontiguousarray(each), starts, bases, target[order].astype(np.int32)
