"""Theory of neurons in noise against limits that are known, and against a simulation."""

import math

import pytest

from ranvier.deploy.populations.network import Network, Poisson, Population
from ranvier.deploy.populations.trains import interval_variation, later, rate
from ranvier.models.mean_field import in_noise, stationary
from ranvier.nn.neurons.refractory_lif import RefractoryLIF

NEURON = {"tau": 20.0, "threshold": 20.0, "reset": 10.0, "refractory": 2.0}


def test_without_noise_it_is_the_closed_formula_and_regular():
    found, variation = in_noise(30.0, 1.0, **NEURON)
    assert found == pytest.approx(1 / (2 + 20 * math.log(20 / 10)), rel=0.02) and variation < 0.1


def test_far_below_threshold_it_is_a_poisson_process():
    found, variation = in_noise(5.0, 4.0, **NEURON)
    assert 0 < found < 1e-4 and variation == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("mean", "spread"), [(21.0, 4.0), (15.0, 5.0)])
def test_a_simulation_agrees(mean, spread):
    """Poisson spikes of small weights of both signs, in small steps."""
    weight, dt = 0.05, 0.02
    both, difference = spread**2 / (20 * weight**2), mean / (20 * weight)
    inputs = [Poisson("x", "v", w, (both + s * difference) / 2 * dt) for w, s in ((weight, 1), (-weight, -1))]
    neuron = RefractoryLIF(tau=20.0, threshold=20.0, v_reset=10.0, refractory=2.0, dt=dt, discretisation="exact")
    spikes, _ = Network({"x": Population(neuron, 64)}, inputs=inputs).run(150_000)
    found, variation = in_noise(mean, spread, **NEURON)
    observed = later(spikes["x"], 5000)
    assert rate(observed, dt) == pytest.approx(found, rel=0.07)
    assert interval_variation(observed, least=4) == pytest.approx(variation, abs=0.08)


def test_a_network_answers_with_the_rate_that_drives_it():
    assert stationary(lambda rate: math.cos(rate), 1.0) == pytest.approx(0.739085, abs=1e-5)
