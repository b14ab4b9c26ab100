"""What a trained network is made of and what it does on real samples: layers, firing rates, operations, activity."""

from ranvier.lab.anatomy.activity import record
from ranvier.lab.anatomy.layers import Anatomy, Layer, NotCounted, anatomy
from ranvier.lab.anatomy.operations import Operations

__all__ = ["Anatomy", "Layer", "NotCounted", "Operations", "anatomy", "record"]
