"""Spiking neural networks: written once, trained fast, checked honestly."""

from ranvier.compile.scan import backend
from ranvier.core.checks import NonFinite, Refusal
from ranvier.core.declarations import Parameter, State
from ranvier.core.files import load, save
from ranvier.core.running import checkpoint, run
from ranvier.core.state import Stateful
from ranvier.nn.coding.delta import DeltaDecoder, DeltaEncoder
from ranvier.nn.coding.direct import Direct
from ranvier.nn.coding.latency import FirstSpikeDecoder, LatencyEncoder
from ranvier.nn.coding.membrane import LastDecoder, MaxDecoder
from ranvier.nn.coding.rate import RateDecoder, RateEncoder
from ranvier.nn.fold import Fold
from ranvier.nn.neurons.adaptive_lif import AdaptiveLIF
from ranvier.nn.neurons.adex import AdEx
from ranvier.nn.neurons.complementary_lif import ComplementaryLIF
from ranvier.nn.neurons.cuba_lif import CuBaLIF
from ranvier.nn.neurons.exponential_if import ExponentialIF
from ranvier.nn.neurons.gated_lif import GatedLIF
from ranvier.nn.neurons.integer_lif import IntegerLIF
from ranvier.nn.neurons.integrate_and_fire import IF
from ranvier.nn.neurons.izhikevich import Izhikevich
from ranvier.nn.neurons.k_based_lif import KBasedLIF
from ranvier.nn.neurons.leaky_integrator import LeakyIntegrator
from ranvier.nn.neurons.lif import LIF
from ranvier.nn.neurons.multi_threshold import MultiThreshold
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.neurons.parametric_lif import ParametricLIF
from ranvier.nn.neurons.probabilistic_meta import ProbabilisticMeta
from ranvier.nn.neurons.quadratic_if import QuadraticIF
from ranvier.nn.neurons.rectified_soft_reset import RectifiedSoftReset
from ranvier.nn.neurons.resonate_and_fire import ResonateAndFire
from ranvier.nn.neurons.sigma_delta import SigmaDelta
from ranvier.nn.neurons.stochastic_lif import StochasticLIF
from ranvier.nn.neurons.ternary_lif import TernaryLIF
from ranvier.nn.neurons.two_compartment_lif import TwoCompartmentLIF
from ranvier.nn.neurons.ultradiscretised_lif import UltradiscretisedLIF
from ranvier.nn.surrogates import Arctan, FastSigmoid, Gaussian, Rectangle, Sigmoid, Surrogate, Triangle, spike
from ranvier.nn.synapses.conv import Conv1d, Conv2d
from ranvier.nn.synapses.delay_line import DelayLine
from ranvier.nn.synapses.linear import Linear
from ranvier.nn.synapses.pool import AvgPool2d, MaxPool2d, SumPool2d, TimePool, TimeRepeat
from ranvier.nn.synapses.recurrent import Recurrent
from ranvier.nn.synapses.scale import Scale
from ranvier.nn.units.astrocyte import AMSU
from ranvier.nn.units.elm import ELM
from ranvier.nn.units.parallel_spiking import PSN, MaskedPSN, SlidingPSN

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`ranvier.plot`, imported when first used: it lies above everything else."""
    if name == "plot":
        from importlib import import_module

        return import_module("ranvier.lab.plot")
    raise AttributeError(f"module 'ranvier' has no attribute {name!r}")


__all__ = [
    "AMSU",
    "ELM",
    "IF",
    "LIF",
    "PSN",
    "AdEx",
    "AdaptiveLIF",
    "Arctan",
    "AvgPool2d",
    "ComplementaryLIF",
    "Conv1d",
    "Conv2d",
    "CuBaLIF",
    "DelayLine",
    "DeltaDecoder",
    "DeltaEncoder",
    "Direct",
    "ExponentialIF",
    "FastSigmoid",
    "FirstSpikeDecoder",
    "Fold",
    "GatedLIF",
    "Gaussian",
    "IntegerLIF",
    "Izhikevich",
    "KBasedLIF",
    "LastDecoder",
    "LatencyEncoder",
    "LeakyIntegrator",
    "Linear",
    "MaskedPSN",
    "MaxDecoder",
    "MaxPool2d",
    "MultiThreshold",
    "Neuron",
    "NonFinite",
    "Parameter",
    "ParametricLIF",
    "ProbabilisticMeta",
    "QuadraticIF",
    "RateDecoder",
    "RateEncoder",
    "Rectangle",
    "RectifiedSoftReset",
    "Recurrent",
    "Refusal",
    "ResonateAndFire",
    "Scale",
    "SigmaDelta",
    "Sigmoid",
    "SlidingPSN",
    "State",
    "Stateful",
    "StochasticLIF",
    "SumPool2d",
    "Surrogate",
    "TernaryLIF",
    "TimePool",
    "TimeRepeat",
    "Triangle",
    "TwoCompartmentLIF",
    "UltradiscretisedLIF",
    "backend",
    "checkpoint",
    "load",
    "run",
    "save",
    "spike",
]
