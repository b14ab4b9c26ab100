from functools import partial

import torch

from ranvier.deploy.populations.connections import FixedInDegree
from ranvier.deploy.populations.network import Network, Population, Projection
from ranvier.lab.recipe import Claim, Recipe
from ranvier.lab.simulate import Simulate, scattered
from ranvier.nn.neurons.ei_current_lif import EICurrentLIF

DT = 0.1


def cuba(neurons: int = 4000, duration: float = 10_000.0, smoke: bool = False) -> Recipe:
    """A balanced network of excitatory and inhibitory neurons that keeps firing by itself, with currents as synapses.

    Four fifths excite. Every neuron gets 80 synapses (of 4000 neurons, 2 %), 64 from excitatory and 16 from inhibitory
    ones, drawn with replacement, after a delay of 1.5 ms (the paper has none); a constant current holds the resting
    membrane 1 mV above threshold. Steps of 0.1 ms, integrated exactly. Beside it: the same without inhibition.
    """
    size = 400 if smoke else neurons
    fit = Simulate(
        duration=600.0 if smoke else duration,
        skip=100.0 if smoke else 500.0,
        dt=DT,
        observed="E",
        start=scattered,
        networks={} if smoke else {"no inhibition": partial(_network, size, inhibition=0.0)},
    )
    full = (
        Claim("rate", ">=", 5.19 * 0.95, "Brian2 2.9 on this network: 5.19 Hz, less 5 %"),
        Claim("rate", "<=", 5.19 * 1.05, "Brian2 2.9 on this network: 5.19 Hz, plus 5 %"),
        Claim("CV of intervals", ">=", 0.8, "our own target: irregular"),
        Claim("no inhibition: rate", ">=", 100.0, "our own target: without inhibition it runs away"),
    )
    return Recipe(
        model=partial(_network, size),
        data=lambda fold: None,
        fit=fit,
        claims=(Claim("rate", ">=", 1.0, "smoke size: it fires by itself"),) if smoke else full,
        source="Vogels and Abbott, J. Neurosci. 2005; as a benchmark Brette et al., J. Comput. Neurosci. 2007",
        seeds=(0,) if smoke else (0, 1, 2),
    )


def _network(neurons: int, excitation: float = 1.62, inhibition: float = -9.0) -> Network:
    """The two populations; its synapses follow from torch's random numbers."""
    neuron = partial(EICurrentLIF, tau=20.0, tau_e=5.0, tau_i=10.0, refractory=5.0, v_rest=-49.0)
    sizes = {"E": neurons * 4 // 5, "I": neurons - neurons * 4 // 5}
    populations = {k: Population(neuron(dt=DT, discretisation="exact"), n) for k, n in sizes.items()}
    kinds = (("E", "g_e", excitation, 64), ("I", "g_i", inhibition, 16))
    projections = [
        Projection(source, target, FixedInDegree(number), onto, weight, delay=15)
        for source, onto, weight, number in kinds
        for target in sizes
        if weight
    ]
    return Network(populations, projections, seed=int(torch.randint(2**31, ())))
