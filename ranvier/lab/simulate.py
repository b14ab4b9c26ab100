"""A fit for networks that are simulated and not trained: they run for a while, and what they fired is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

import torch
from torch import Tensor

from ranvier.core.files import save
from ranvier.deploy.populations.network import Network, Spikes
from ranvier.deploy.populations.trains import interval_variation, later, rate, synchrony
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.recipe import Recipe, Result, Session


@dataclass(frozen=True)
class Simulate:
    """Run `recipe.model()`, a Network, and those beside it, each from `start(network)`.

    Metrics of the population `observed`, from `skip` ms on: rate (Hz), CV of its intervals, synchrony (variance over mean of its
    spikes in bins of 1 ms), and whatever `others` finds; those of networks beside carry their name. Rows of the curves
    are tenths of the time.
    """

    duration: float
    """ms, as are `skip` and `dt`."""
    skip: float
    dt: float
    observed: str
    start: Callable[[Network], Mapping[str, Tensor]] = Network.rest
    networks: Mapping[str, Callable[[], Network]] = field(default_factory=dict)
    others: Callable[[], Mapping[str, float]] | None = None

    def __call__(self, recipe: Recipe, session: Session) -> Result:
        result = Result({})
        steps, skip = round(self.duration / self.dt), round(self.skip / self.dt)
        weights = session.folder / "weights"
        weights.mkdir(exist_ok=True)
        rows: list[dict[str, float]] = [{"fold": 0.0, "epoch": float(k)} for k in range(10)]
        for name, make in {"network": cast(Callable[[], Network], recipe.model), **self.networks}.items():
            seed_all(session.seed)
            began = perf_counter()
            network = make()
            pieces, state = [], self.start(network)
            for k in range(10):
                if session.stop.is_set():
                    result.interrupted = True
                    return result
                found, state = network.run((k + 1) * steps // 10 - k * steps // 10, state)
                pieces.append(found[self.observed])
            t, index = (torch.cat([getattr(p, what) for p in pieces]) for what in ("t", "index"))
            spikes = Spikes(t, index, pieces[0].neurons, steps, pieces[0].first)
            prefix = "" if name == "network" else f"{name}: "
            result.metrics |= {f"{prefix}{k}": v for k, v in self._measured(later(spikes, skip)).items()}
            for k, row in enumerate(rows):
                inside = (spikes.t >= k * steps // 10) & (spikes.t < (k + 1) * steps // 10)
                row[f"{prefix}test rate"] = int(inside.sum()) / (spikes.neurons * self.duration * 1e-4)
            result.seconds[name] = perf_counter() - began
            save(network.state_dict(), weights / f"{name.lower().replace(' ', '-')}-0.safetensors")
        result.metrics |= self.others() if self.others else {}
        result.curves = rows
        return result

    def _measured(self, spikes: Spikes) -> dict[str, float]:
        bins = round(1 / self.dt)
        return {
            "rate": rate(spikes, self.dt * 1e-3),
            "CV of intervals": interval_variation(spikes),
            "synchrony": synchrony(spikes, bins),
        }


def scattered(network: Network, low: float = -60.0, high: float = -50.0) -> dict[str, Tensor]:
    """At rest but for the membranes v, which lie anywhere between two values, by torch's random numbers.

    >>> from ranvier.deploy.populations.network import Population
    >>> from ranvier.nn.neurons.lif import LIF
    >>> scattered(Network({"x": Population(LIF(), 3)}), 2.0, 3.0)["x.v"].floor()
    tensor([2., 2., 2.])
    """
    state = network.rest()
    return state | {k: low + (high - low) * torch.rand(v.shape) for k, v in state.items() if k.endswith(".v")}
