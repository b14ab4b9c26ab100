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
from ranvier.nn.neurons.ei_conductance_lif import EIConductanceLIF
from ranvier.nn.neurons.ei_current_lif import EICurrentLIF
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
from ranvier.nn.neurons.refractory_lif import RefractoryLIF
from ranvier.nn.neurons.resonate_and_fire import ResonateAndFire
from ranvier.nn.neurons.sigma_delta import SigmaDelta
from ranvier.nn.neurons.stochastic_lif import StochasticLIF
from ranvier.nn.neurons.ternary_lif import TernaryLIF
from ranvier.nn.neurons.two_compartment_lif import TwoCompartmentLIF
from ranvier.nn.neurons.ultradiscretised_lif import UltradiscretisedLIF
from ranvier.nn.norms.batch_norm import BatchNorm
from ranvier.nn.norms.fold_norms import fold_norms
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.norm import Norm
from ranvier.nn.norms.normalised import Normalised
from ranvier.nn.norms.polarised import Polarised
from ranvier.nn.norms.temporal_batch_norm import TemporalBatchNorm
from ranvier.nn.norms.threshold_batch_norm import ThresholdBatchNorm
from ranvier.nn.surrogates import Arctan, FastSigmoid, Gaussian, Rectangle, Sigmoid, Surrogate, Triangle, spike
from ranvier.nn.synapses.conv import Conv1d, Conv2d
from ranvier.nn.synapses.delay_line import DelayLine
from ranvier.nn.synapses.delayed_conv import DelayedConv1d, DelayedConv2d, DelayedConv3d, cone
from ranvier.nn.synapses.delayed_linear import DelayedLinear
from ranvier.nn.synapses.delays import SigmaSchedule, delay_groups
from ranvier.nn.synapses.lateral import ei_init, keep_dale
from ranvier.nn.synapses.lateral_conv import EIConv2d
from ranvier.nn.synapses.lateral_linear import EILinear
from ranvier.nn.synapses.linear import Linear
from ranvier.nn.synapses.pool import AvgPool2d, MaxPool2d, SumPool2d, TimePool, TimeRepeat
from ranvier.nn.synapses.recurrent import Recurrent
from ranvier.nn.synapses.scale import Scale
from ranvier.nn.synapses.short_term_plasticity import ShortTermPlasticity
from ranvier.nn.synapses.sparse import SparseLinear
from ranvier.nn.synapses.spike_conv import SpikeConv2d
from ranvier.nn.synapses.spike_linear import SpikeLinear
from ranvier.nn.units.astrocyte import AMSU
from ranvier.nn.units.elm import ELM
from ranvier.nn.units.legendre_memory import LegendreMemory
from ranvier.nn.units.parallel_spiking import PSN, MaskedPSN, SlidingPSN
from ranvier.nn.units.spiking_legendre_memory import SpikingLegendreMemory
from ranvier.ops.spike_pack.spikes import Spikes

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
    "BatchNorm",
    "ComplementaryLIF",
    "Conv1d",
    "Conv2d",
    "CuBaLIF",
    "DelayLine",
    "DelayedConv1d",
    "DelayedConv2d",
    "DelayedConv3d",
    "DelayedLinear",
    "DeltaDecoder",
    "DeltaEncoder",
    "Direct",
    "EIConductanceLIF",
    "EIConv2d",
    "EICurrentLIF",
    "EILinear",
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
    "LegendreMemory",
    "Linear",
    "MaskedPSN",
    "MaxDecoder",
    "MaxPool2d",
    "MembraneBatchNorm",
    "MultiThreshold",
    "Neuron",
    "NonFinite",
    "Norm",
    "Normalised",
    "Parameter",
    "ParametricLIF",
    "Polarised",
    "ProbabilisticMeta",
    "QuadraticIF",
    "RateDecoder",
    "RateEncoder",
    "Rectangle",
    "RectifiedSoftReset",
    "Recurrent",
    "RefractoryLIF",
    "Refusal",
    "ResonateAndFire",
    "Scale",
    "ShortTermPlasticity",
    "SigmaDelta",
    "SigmaSchedule",
    "Sigmoid",
    "SlidingPSN",
    "SparseLinear",
    "SpikeConv2d",
    "SpikeLinear",
    "Spikes",
    "SpikingLegendreMemory",
    "State",
    "Stateful",
    "StochasticLIF",
    "SumPool2d",
    "Surrogate",
    "TemporalBatchNorm",
    "TernaryLIF",
    "ThresholdBatchNorm",
    "TimePool",
    "TimeRepeat",
    "Triangle",
    "TwoCompartmentLIF",
    "UltradiscretisedLIF",
    "backend",
    "checkpoint",
    "cone",
    "delay_groups",
    "ei_init",
    "fold_norms",
    "keep_dale",
    "load",
    "run",
    "save",
    "spike",
]
