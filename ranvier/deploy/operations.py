"""The engine's operations by name, as other backends than the engine read them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.deploy.engine import kernels as k
from ranvier.deploy.engine.lowered import At, Lowered, Stepping

NONE = -1
"""Stands where an operation may have an array and has none."""
_INPUT = "value index mark size"
_WORDS = {
    k.FRAME: f"frame {_INPUT} order",
    k.LIST: f"list {_INPUT}",
    k.FILL: "fill out bias size",
    k.DENSE: "dense value index mark inputs weights size out bias",
    k.SCATTER: "scatter value index mark inputs channels starts runs weights weight_step out_step out ring head",
    k.MAXIMUM: "maximum value index mark inputs channels starts runs out out_index out_mark size",
    k.NEURON: "neuron code table vectors mark ones",
    k.ECHO: f"echo {_INPUT} past delays count slots head out out_index out_mark",
    k.ARRIVE: "arrive ring head size words out bias",
    k.TIME_POOL: f"time_pool {_INPUT} sum phase steps out out_index out_mark",
    k.RELABEL: f"relabel {_INPUT} places factors out out_index out_mark",
    k.OUT: "out value order size",
}
_OPTIONAL = ("bias", "head")
KINDS = frozenset(words.split()[0] for words in _WORDS.values())
"""The names of all operations."""


@dataclass(frozen=True)
class Operation:
    """One operation: `op["weights"]` is the number of an array, `op["size"]` a size."""

    kind: str
    words: Mapping[str, int]
    neuron: Stepping | None = None

    def __getitem__(self, name: str) -> int:
        return self.words[name]

    @property
    def step(self) -> Stepping:
        assert self.neuron is not None
        return self.neuron


def operations(lowered: Lowered) -> list[Operation]:
    """A program's operations, in their order.

    Raises: Refusal for one whose neurons rest in silence: that is the engine's own way to be quick.

    >>> import torch, ranvier
    >>> from ranvier.deploy.engine.program import compile
    >>> model = torch.nn.Sequential(ranvier.Linear(3, 8), ranvier.LIF())
    >>> [op.kind for op in operations(compile(model, [3]).lowered)]
    ['frame', 'dense', 'neuron', 'out']
    """
    neurons = iter(lowered.neurons)
    found = []
    for row in lowered.ops:
        if row[0] == k.RESTING:
            do = "Compile it with skip=False."
            raise Refusal("program", expected="neurons that advance at every step", got="some that rest", do=do)
        kind, *names = _WORDS[int(row[0])].split()  # type: ignore[arg-type]
        words = {}
        for name, word in zip(names, row[1:], strict=False):
            words[name] = word.number if isinstance(word, At) else NONE if name in _OPTIONAL else word
        if kind != "neuron":
            found.append(Operation(kind, words))
            continue
        one = next(neurons)
        words |= {"x": one.x.number, "out": one.y.value.number, "out_index": one.y.index.number}
        found.append(Operation(kind, {**words, "out_mark": words["mark"], "size": one.y.size}, one))
    return found


def binary(lowered: Lowered, ops: list[Operation]) -> set[int]:
    """The arrays of values that are 0 or 1 whatever comes in."""
    made = written(ops)
    inputs = {op["value"] for op in ops if "value" in op.words and op["value"] not in made}
    spikes = {number for number in inputs if (array(lowered, number) == 1).all()}
    for _ in range(2):  # recurrent spikes are used before they are made
        for op in ops:
            same = op.kind in ("maximum", "echo") or (
                op.kind == "relabel" and bool((array(lowered, op["factors"]) == 1).all())
            )
            if (same and op["value"] in spikes) or (op.kind == "neuron" and op["ones"]):
                spikes |= {op["out"]} | ({op["past"]} if op.kind == "echo" else set())
    return spikes


def written(ops: list[Operation]) -> set[int]:
    """The arrays of values that an operation writes."""
    return {op["out"] for op in ops if "out" in op.words} | {op["value"] for op in ops if op.kind == "frame"}


def array(lowered: Lowered, number: int) -> np.ndarray:
    """An array of numbers, which a NEURON's table is not."""
    found = lowered.arrays[number]
    assert isinstance(found, np.ndarray)
    return found


def synapses(lowered: Lowered, op: Operation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a SCATTER or MAXIMUM every synapse: its input, its weight's place in the weights, its output.

    Outputs in a ring count from its head on.
    """
    channels, places = op["channels"], op["inputs"] // op["channels"]
    starts, runs = array(lowered, op["starts"]), array(lowered, op["runs"]).astype(np.int64)
    lengths = runs[:, 2]
    place = np.repeat(np.repeat(np.arange(places), np.diff(starts)), lengths)
    along = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first, weight = np.repeat(runs[:, 0], lengths) + along, np.repeat(runs[:, 1], lengths) + along
    channel = np.arange(channels)[:, None]
    steps = (op["weight_step"], op["out_step"]) if op.kind == "scatter" else (0, 1)
    return (
        (place * channels + channel).reshape(-1),
        (weight + channel * steps[0]).reshape(-1),
        (first + channel * steps[1]).reshape(-1),
    )
