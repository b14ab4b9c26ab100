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
from ranvier.nn.neurons.cuba_lif import CuBaLIF
from ranvier.nn.neurons.leaky_integrator import LeakyIntegrator
from ranvier.nn.neurons.lif import LIF
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.surrogates import Arctan, FastSigmoid, Gaussian, Rectangle, Sigmoid, Surrogate, Triangle, spike
from ranvier.nn.synapses.conv import Conv1d, Conv2d
from ranvier.nn.synapses.delay_line import DelayLine
from ranvier.nn.synapses.linear import Linear
from ranvier.nn.synapses.pool import AvgPool2d, MaxPool2d, SumPool2d, TimePool
from ranvier.nn.synapses.recurrent import Recurrent
from ranvier.nn.synapses.scale import Scale

__version__ = "0.1.0"

__all__ = [
    "LIF",
    "AdaptiveLIF",
    "Arctan",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "CuBaLIF",
    "DelayLine",
    "DeltaDecoder",
    "DeltaEncoder",
    "Direct",
    "FastSigmoid",
    "FirstSpikeDecoder",
    "Fold",
    "Gaussian",
    "LastDecoder",
    "LatencyEncoder",
    "LeakyIntegrator",
    "Linear",
    "MaxDecoder",
    "MaxPool2d",
    "Neuron",
    "NonFinite",
    "Parameter",
    "RateDecoder",
    "RateEncoder",
    "Rectangle",
    "Recurrent",
    "Refusal",
    "Scale",
    "Sigmoid",
    "State",
    "Stateful",
    "SumPool2d",
    "Surrogate",
    "TimePool",
    "Triangle",
    "backend",
    "checkpoint",
    "load",
    "run",
    "save",
    "spike",
]
