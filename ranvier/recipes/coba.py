import math
from functools import partial

import torch

import ranvier
from ranvier.deploy.populations.connections import FixedProbability
from ranvier.deploy.populations.network import Network, Population, Projection
from ranvier.lab.recipe import Claim, Recipe
from ranvier.lab.simulate import Simulate, scattered
from ranvier.nn.neurons.ei_conductance_lif import EIConductanceLIF

DT = 0.1


def coba(neurons: int = 4000, duration: float = 600.0, smoke: bool = False) -> Recipe:
    """A balanced network of excitatory and inhibitory neurons that keeps firing by itself, with conductances as synapses.

    Four fifths excite; every pair is connected with probability 0.02 (80 synapses a neuron, at any size). Conductances jump
    by 0.6 and 6.7 leaks and decay in 5 and 10 ms; a constant current moves the resting membrane from -60 to -40 mV. Steps
    of 0.1 ms by exponential Euler; a spike acts in the next step. Measured over 0.1 to 0.6 s, as in the source; theory is checked
    beside it: the integrator, and shared synapses against one conductance for each synapse.
    """
    size = 400 if smoke else neurons
    full = (
        Claim("rate", ">=", 10.0, "simulation of the benchmark: 19 Hz"),
        Claim("rate", "<=", 30.0, "simulation of the benchmark: 19 Hz"),
        Claim("CV of intervals", ">=", 0.8, "simulation of the benchmark: 1.5"),
        Claim("exponential Euler: error", "<=", 1e-6, "theory: exact for linear decay up to 5 time constants a step"),
        Claim("Euler: error", ">=", 1.0, "theory: diverges beyond 2 time constants a step"),
        Claim("shared synapses: error", "<=", 1e-5, "theory: linear kinetics of one time constant"),
    )
    return Recipe(
        model=partial(_network, size),
        data=lambda fold: None,
        fit=Simulate(duration=duration, skip=100.0, dt=DT, observed="E", start=scattered, others=_theory),
        claims=full[3:] if smoke else full,
        source="Vogels and Abbott, J. Neurosci. 2005; as a benchmark Wang et al. (BrainPy), ICLR 2024",
        seeds=(0,) if smoke else (0, 1, 2),
    )


def _network(neurons: int, excitation: float = 0.6, inhibition: float = 6.7) -> Network:
    """The two populations; its synapses follow from torch's random numbers."""
    neuron = partial(EIConductanceLIF, tau=20.0, tau_e=5.0, tau_i=10.0, refractory=5.0, v_rest=-40.0)
    sizes = {"E": neurons * 4 // 5, "I": neurons - neurons * 4 // 5}
    populations = {k: Population(neuron(dt=DT, discretisation="exact"), n) for k, n in sizes.items()}
    drawn = FixedProbability(80 / neurons)
    kinds = (("E", "g_e", excitation), ("I", "g_i", inhibition))
    projections = [
        Projection(source, target, drawn, onto, weight) for source, onto, weight in kinds for target in sizes
    ]
    return Network(populations, projections, seed=int(torch.randint(2**31, ())))


def _theory() -> dict[str, float]:
    """Largest errors: of both integrators of linear decay, and of one conductance a neuron against one a synapse or source."""
    found = {}
    for name, rule, rates in (("exponential Euler", "exact", (0.01, 0.5, 1.0, 2.5, 5.0)), ("Euler", "euler", (2.5,))):
        errors = []
        for r in rates:  # time constants a step; more than one by a constant conductance beside the leak
            layer = EIConductanceLIF(tau=1 / min(r, 1.0), tau_e=1e12, v_rest=0.0, threshold=1e9, discretisation=rule)  # type: ignore[arg-type]
            start = {"v": 1.0, "g_e": max(r, 1.0) - 1.0, "g_i": 0.0, "r": 0.0}
            state = {k: torch.full((1, 1), value) for k, value in start.items()}
            v = ranvier.run(layer, torch.zeros(20, 1, 1), state, record=("v",))[2]["v"].flatten()
            errors.append((v - torch.exp(-r * torch.arange(1, 21))).abs().max().item())
        found[f"{name}: error"] = max(errors)
    weights, spikes = torch.rand(50, 40) / 40, (torch.rand(1000, 40) < 0.02).float()
    layer = EIConductanceLIF(tau_e=5.0, dt=DT, threshold=1e9, discretisation="exact")
    shared = ranvier.run(layer, (spikes @ weights.T)[:, None], record=("g_e",))[2]["g_e"][:, 0]
    kept = math.exp(-DT / 5.0)
    by_source, by_synapse, error = torch.zeros(40), torch.zeros(50, 40), 0.0
    for spike, g in zip(spikes, shared, strict=True):
        by_source, by_synapse = kept * (by_source + spike), kept * (by_synapse + weights * spike)
        error = max(error, *((g - other).abs().max().item() for other in (weights @ by_source, by_synapse.sum(1))))
    return found | {"shared synapses: error": error}
