"""The reference of a simulation: step by step in plain torch and numpy, spike by spike."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ranvier.core.random import Draws, philox
from ranvier.deploy.populations.parts import Parts, Poisson, Spikes
from ranvier.deploy.populations.poisson import thresholds
from ranvier.deploy.populations.simulation import POISSON, seeds
from ranvier.deploy.populations.wiring import wire


def run(
    network: Parts, steps: int, state: Mapping[str, Tensor], processes: bool
) -> tuple[dict[str, Spikes], dict[str, Tensor]]:
    """As simulation.run; processes don't share the work."""
    now, first, after = {k: v.clone() for k, v in state.items()}, int(state["step"]), dict(state)
    wiring = wire(network, {k: (0, p.size) for k, p in network.populations.items()}, 1 << 30)
    fired: dict[str, dict[int, np.ndarray]] = {}
    for name in network.populations:
        when, who = state[f"{name}.past_t"].numpy(), state[f"{name}.past_index"].numpy()
        fired[name] = {int(s): who[when == s] for s in np.unique(when)}
    bound = {}
    for number, (name, population) in enumerate(network.populations.items()):
        bound[name] = population.neuron.bind(torch.float32)
        if population.neuron.random:
            seed = torch.tensor([seeds(network, state, number)])
            bound[name].draws = Draws(seed, torch.tensor([first]), (population.size,))
    with torch.no_grad():
        for t in range(first, first + steps):
            for name, population in network.populations.items():
                for number, given in enumerate(network.inputs):
                    if given.target == name:
                        arrived = _poisson(given, population.size, seeds(network, state, number), t)
                        now[f"{name}.{given.onto}"] += arrived
                for bundle in wiring.bundles[name]:
                    onto = now[f"{name}.{bundle.onto}"].numpy()
                    for i in fired[bundle.source].get(t - bundle.delay, ()):
                        own = slice(bundle.starts[0, i], bundle.starts[0, i + 1])
                        weights = (
                            bundle.weights if len(bundle.weights) == 1 < len(bundle.targets) else bundle.weights[own]
                        )
                        np.add.at(onto, bundle.targets[own], weights)
            for name, population in network.populations.items():
                x = torch.as_tensor(population.current, dtype=torch.float32).expand(population.size)[None]
                keys = [f"{name}.{k}" for k in population.neuron.states]
                z, *values = bound[name].advance_one_step(x, *(now[k][None] for k in keys))
                now |= {k: v[0].clone() for k, v in zip(keys, values, strict=True)}
                fired[name][t] = z[0].numpy().nonzero()[0].astype(np.int32)
    spikes = {}
    for name, population in network.populations.items():
        last, kept = range(first, first + steps), wiring.longest[name]
        past = range(first + steps - kept, first + steps)
        now[f"{name}.past_t"], now[f"{name}.past_index"] = _listed(fired[name], past)
        spikes[name] = Spikes(*_listed(fired[name], last), population.size, steps, first)
    now["step"] = torch.tensor(first + steps)
    return spikes, {k: now[k] for k in after}


def _poisson(given: Poisson, neurons: int, seed: int, t: int) -> Tensor:
    key = torch.tensor([seed & 0xFFFFFFFF]), torch.tensor([seed >> 32])
    one = torch.ones(1, dtype=torch.int64)
    words = philox((torch.arange(neurons), one * POISSON, one * (t // 4), 0 * one), key)
    limits = thresholds(given.rate)
    numbers = np.searchsorted(limits.astype(np.int64), words[t % 4].numpy(), side="left")
    return torch.from_numpy(np.float32(given.weight) * numbers.astype(np.float32))


def _listed(fired: Mapping[int, np.ndarray], steps: range) -> tuple[Tensor, Tensor]:
    found = [(t, fired[t]) for t in steps if t in fired]
    t = np.concatenate([np.zeros(0, np.int64), *(np.full(len(i), t, np.int64) for t, i in found)])
    return torch.from_numpy(t), torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *(i for _, i in found)]))
