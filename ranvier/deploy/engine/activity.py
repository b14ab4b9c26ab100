"""Who was active in the last step of a run."""

from typing import NamedTuple

from ranvier.deploy.engine import kernels as k
from ranvier.deploy.engine.lowered import At
from ranvier.deploy.engine.program import Live


class Layer(NamedTuple):
    """The neurons of one layer."""

    name: str
    """as in the model without its norms"""
    neurons: int
    mark: int
    """the number of the array that counts the active ones"""


def spiking_layers(live: Live) -> list[Layer]:
    """The layers whose output is spikes; a readout that gives out its membrane is none."""
    lowered = live.program.lowered
    names = {number: name for name, number in lowered.states.items()}
    ops = [op for op in lowered.ops if op[0] in (k.NEURON, k.RESTING)]
    found: list[Layer] = []
    for op, stepping in zip(ops, lowered.neurons, strict=True):
        mark = op[4]
        assert isinstance(mark, At)
        if op[5] or op is not ops[-1]:
            named = [names[s.number] for s in stepping.states]
            name = named[0].rpartition(".")[0] if named else f"neurons {len(found)}"
            found.append(Layer(name or "neurons", stepping.y.size, mark.number))
    return found


def active(live: Live, layers: list[Layer]) -> list[int]:
    """How many neurons of each layer gave out something in the last step."""
    return [int(live.arrays[layer.mark][0]) for layer in layers]
