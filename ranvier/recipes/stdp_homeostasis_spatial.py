from functools import partial
from itertools import pairwise

from ranvier.data.samples import Split
from ranvier.data.sets.mnist import MNIST
from ranvier.lab.learn_once import OVERLAPS, LearnOnce
from ranvier.lab.recipe import Claim, Recipe
from ranvier.models.spatial_patterns import PatternClassifier


def stdp_homeostasis_spatial(each: int = 10, samples: int = 10_000, smoke: bool = False) -> Recipe:
    """Patterns of simultaneous spikes learnt from one presentation by STDP, a teacher and homeostasis.

    A neuron fires for its pattern of 20 of 100 inputs, and at a Hamming distance of up to (1 - f) 20, f being the homeostatic
    factor; the same of handwritten digits, of which `each` examples a class are shown once, and the neuron that a new one drives
    most names its class.

    Decided where the source leaves it open: synapses are delta pulses, tau 20 ms, the teacher comes after 2 ms; inputs of no pattern
    get negative weights; several patterns on one neuron add up their positive weights, so that these sum to theta / f for each
    pattern. "false alarms" is the mean over inputs at distances 2 ... 20 from one of two such patterns, at f = 1.
    """
    each, samples = (2, 200) if smoke else (each, samples)
    part = MNIST().smoke if smoke else MNIST().load
    rising = (
        Claim(f"false alarms, overlap {b} %", ">=", 1e-6, "the paper", beside=f"false alarms, overlap {a} %")
        for a, b in pairwise(OVERLAPS)
    )
    theory = (
        Claim("f = 1: errors", "<=", 0.0, "theory"),
        Claim("f = 0.9: errors", "<=", 0.0, "theory"),
    )
    target = Claim("accuracy", ">=", 0.40, "our own target")
    return Recipe(
        model=partial(PatternClassifier, 784, 10, each),
        data=lambda fold: Split(part("train"), part("test")),
        fit=LearnOnce(each, samples),
        claims=theory if smoke else (*theory, *rising, target),
        source="Davies, Gait, Rowley and Di Nuovo, Neurocomputing 2025",
        seeds=(0,) if smoke else (0, 1, 2),
    )
