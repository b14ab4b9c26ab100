"""How networks learn: rules that change synapses by spikes alone, losses and regularisers of training by gradients."""

from ranvier.learn.homeostatic_rescale import HomeostaticRescale
from ranvier.learn.pair_stdp import PairSTDP
from ranvier.learn.plastic_lif import PlasticLIF
from ranvier.learn.sym_stdp import SymSTDP
from ranvier.learn.synaptic_scaling import SynapticScaling
from ranvier.learn.teacher_stdp import TeacherSTDP
from ranvier.learn.triplet_stdp import TripletSTDP

__all__ = [
    "HomeostaticRescale",
    "PairSTDP",
    "PlasticLIF",
    "SymSTDP",
    "SynapticScaling",
    "TeacherSTDP",
    "TripletSTDP",
]
