import math
from functools import partial

import torch

from ranvier.deploy.populations.connections import FixedInDegree
from ranvier.deploy.populations.network import Network, Poisson, Population, Projection
from ranvier.lab.recipe import Claim, Recipe
from ranvier.lab.simulate import Simulate
from ranvier.models.mean_field import in_noise, stationary
from ranvier.nn.neurons.refractory_lif import RefractoryLIF

DT, J, DELAY = 0.1, 0.1, 1.5
TAU, THRESHOLD, RESET, REFRACTORY = 20.0, 20.0, 10.0, 2.0
CLOSE_BY = "the paper's theory of the intervals; 0.1 of our own"
CLOSE = "the paper, figure 8, against its mean-field theory; 10 % of our own"


def brunel(excitatory: int = 10_000, duration: float = 1000.0, smoke: bool = False) -> Recipe:
    """Four states of a sparse network of excitatory and inhibitory neurons, by inhibition g and external drive eta.

    Four times as many neurons excite as inhibit; a neuron gets synapses from a tenth of each and as many external
    excitatory ones, all of 0.1 mV, inhibitory -g times that, after 1.5 ms. Eta is the external frequency in the unit of that which
    alone brings the mean to threshold. Model A of the paper in steps of 0.1 ms; its states of figure 8: asynchronous irregular (AI,
    g = 5, eta = 2: the network itself), synchronous regular (SR, 3, 2), and with synchronous irregular oscillation that is fast
    (SI, 6, 4) or slow (4.5, 0.9). Sizes of other than 10,000 keep the mean drive and scale the weights up.
    """
    size = 400 if smoke else excitatory
    states = {"SR": (3.0, 2.0), "SI fast": (6.0, 4.0), "SI slow": (4.5, 0.9)}
    fit = Simulate(
        duration=200.0 if smoke else duration,
        skip=50.0 if smoke else 200.0,
        dt=DT,
        observed="E",
        networks={} if smoke else {k: partial(_network, size, *v) for k, v in states.items()},
        others=lambda: {f"{k}: mean-field rate": _theory(*v)[0] for k, v in {"AI": (5.0, 2.0), **states}.items()},
    )
    theory, irregular = _theory(5.0, 2.0)
    full = (
        Claim("rate", ">=", 0.9 * theory, CLOSE),
        Claim("rate", "<=", 1.1 * theory, CLOSE),
        Claim("CV of intervals", ">=", irregular - 0.1, CLOSE_BY),
        Claim("CV of intervals", "<=", irregular + 0.1, CLOSE_BY),
        Claim("SR: CV of intervals", "<=", 0.3, "the paper: regular; the bound is our own"),
        Claim("SR: synchrony", ">=", 100.0, "the paper: synchronous; the bound is our own", beside="synchrony"),
        Claim("SI fast: CV of intervals", ">=", 0.5, "the paper: irregular; the bound is our own"),
        Claim("SI fast: synchrony", ">=", 0.0, "the paper: synchronous, AI is not", beside="synchrony"),
        Claim("SI slow: rate", "<=", 10.0, "the paper: very low rates; the bound is our own"),
    )
    return Recipe(
        model=partial(_network, size, 5.0, 2.0),
        data=lambda fold: None,
        fit=fit,
        claims=(Claim("rate", ">=", 5.0, "smoke size: it fires"),) if smoke else full,
        source="Brunel, J. Comput. Neurosci. 2000",
        seeds=(0,) if smoke else (0, 1, 2),
    )


def _network(excitatory: int, g: float, eta: float) -> Network:
    """Model A with so many excitatory neurons; its synapses and external spikes follow from torch's random numbers."""
    sizes = {"E": excitatory, "I": excitatory // 4}
    sources = excitatory // 10
    weight = J * 1000 / sources
    neuron = partial(RefractoryLIF, tau=TAU, threshold=THRESHOLD, v_reset=RESET, refractory=REFRACTORY)
    populations = {k: Population(neuron(dt=DT, discretisation="exact"), n) for k, n in sizes.items()}
    delay = round(DELAY / DT)
    projections = [
        Projection(source, target, FixedInDegree(number), "v", strength, delay)
        for source, number, strength in (("E", sources, weight), ("I", sources // 4, -g * weight))
        for target in sizes
    ]
    external = eta * THRESHOLD / (weight * TAU) * DT  # eta times what brings the mean to threshold
    inputs = [Poisson(target, "v", weight, external) for target in sizes]
    return Network(populations, projections, inputs, seed=int(torch.randint(2**31, ())))


def _theory(g: float, eta: float) -> tuple[float, float]:
    """The stationary rate in Hz of 10,000 excitatory neurons, and how irregular they fire (the paper's eq. 21 and 22)."""

    def answer(rate: float) -> tuple[float, float]:
        external = eta * THRESHOLD / (J * TAU)
        mean = J * TAU * (external + 1000 * rate * (1 - 0.25 * g))
        spread = J * math.sqrt(TAU * (external + 1000 * rate * (1 + 0.25 * g**2)))
        return in_noise(mean, spread, TAU, THRESHOLD, RESET, REFRACTORY)

    rate = stationary(lambda rate: answer(rate)[0], 1 / REFRACTORY)
    return 1000 * rate, answer(rate)[1]
