"""Spiking neural networks: written once, trained fast, checked honestly."""

from ranvier.core.files import load, save
from ranvier.core.running import checkpoint, run
from ranvier.nn.fold import Fold
from ranvier.nn.neurons.adaptive_lif import AdaptiveLIF
from ranvier.nn.neurons.cuba_lif import CuBaLIF
from ranvier.nn.neurons.leaky_integrator import LeakyIntegrator
from ranvier.nn.neurons.lif import LIF
