"""A program of the engine in whole numbers: small weights, 32-bit sums and states, every rounding written down.

Weights have 8 or 16 bits and a power of two for each output (for outputs that share weights, as of one channel, one in
common). What flows between layers is a spike, or a number of 16 bits clipped there; sums have 32 bits and can't pass
them, whatever comes in. A neuron's input and states have a power of two of their own, with room for four times the
largest number of the calibration, and are clipped at 2^29.
"""

from dataclasses import dataclass, field
from math import ceil, log2

import numpy as np
from torch import Tensor

from ranvier.compile.fixed_point import LIMIT, Incoming, Plan, planned
from ranvier.core.checks import Refusal
from ranvier.deploy.engine.lowered import Lowered
from ranvier.deploy.engine.program import Program
from ranvier.deploy.fixed_point.calibration import Calibration, calibrated
from ranvier.deploy.fixed_point.weights import quantised, room
from ranvier.deploy.operations import NONE, Operation, array, binary, operations, written

NARROW, FEWEST, MOST_BITS = 15, 10, 24
"""Bits of what flows, without the sign: at best, and at worst; and of a fraction."""
SPIKE = Incoming(0, 0, 1)


@dataclass(frozen=True)
class Join:
    """How an array comes about: of sums, each shifted left by so many bits for each output, and a bias."""

    parts: tuple[tuple[int, np.ndarray], ...]
    bias: np.ndarray
    fits: bool
    """Whether no sum can pass 32 bits."""


@dataclass
class FixedPoint:
    """A program in whole numbers; `run` of the reference and the C file carry out exactly this."""

    source: Program
    weight_bits: int
    ops: list[Operation] = field(default_factory=list)
    arrays: dict[int, np.ndarray] = field(default_factory=dict)
    formats: dict[int, Incoming] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    """By the number of a neuron operation's output."""
    joins: dict[int, Join] = field(default_factory=dict)
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By the number of an output: the shift to the right behind the factors, and for TIME_POOL the factor."""
    memory: dict[str, int] = field(default_factory=dict)
    """What outlives a step, and the values of all layers: what two runs are compared by."""

    @property
    def input(self) -> Incoming:
        return self.formats[self.ops[0]["value"]]

    @property
    def output(self) -> Incoming:
        return self.formats[self.ops[-1]["value"]]


def fixed_point(program: Program, numbers: str, calibration: Tensor) -> FixedPoint:
    """The program in whole numbers with "int8" or "int16" weights; scales fit `calibration` [T, B, ...], training data.

    Raises: Refusal for a neuron whose step has a function of what changes, for other `numbers`, and for no data.

    >>> import torch, ranvier
    >>> from ranvier.deploy.engine.program import compile
    >>> model = torch.nn.Sequential(ranvier.Linear(3, 8), ranvier.LIF())
    >>> program = fixed_point(compile(model, [3]), "int8", torch.ones(5, 2, 3))
    >>> [op.kind for op in program.ops], program.input
    (['frame', 'zero', 'dense', 'join', 'neuron', 'out'], Incoming(bits=0, low=-32767, high=32767))
    """
    if numbers not in ("int8", "int16"):
        raise Refusal("numbers", expected="'int8' or 'int16'", got=repr(numbers), do="Choose the size of weights.")
    return _Quantiser(program, int(numbers[3:]), calibrated(program, calibration)).made


class _Quantiser:
    def __init__(self, program: Program, bits: int, seen: Calibration) -> None:
        self.made = FixedPoint(program, bits)
        self.lowered: Lowered = program.lowered
        self.seen, self.old = seen, operations(program.lowered)
        self.spikes = binary(self.lowered, self.old)
        self.maker = {op["value"]: op for op in self.old if op.kind == "frame"}
        for op in self.old:
            if "out" in op.words and op.kind not in ("dense", "scatter"):
                self.maker.setdefault(op["out"], op)
        flowing = ("frame", "list", "dense", "scatter", "maximum", "echo", "time_pool", "relabel")
        self.narrow = {op["value"] for op in self.old if op.kind in flowing}
        self.sums = {op["out"] for op in self.old if op.kind in ("fill", "dense", "scatter", "arrive")}
        self.inside = {op["out"]: size for op, size in zip(self.neurons(), seen.inside, strict=True)}
        self.allowed: dict[int, int] = {}
        self.places: dict[int, int] = {}
        """By operation: the array that its sums go into."""
        for op in self.old:
            if op.kind in ("dense", "scatter"):
                root = self.root(op["value"])
                bits_there = room(self.lowered, op, self.bits_of(op), self.slot(op))
                self.allowed[root] = max(FEWEST, min(self.allowed.get(root, NARROW), bits_there))
        for number, data in enumerate(self.lowered.arrays):
            if isinstance(data, np.ndarray):
                self.made.arrays[number] = data
        self.operations()
        self.remember()

    def neurons(self) -> list[Operation]:
        return [op for op in self.old if op.kind == "neuron"]

    def bits_of(self, op: Operation) -> int:
        """A single weight, as of pooling, may have 16 bits: it costs nothing."""
        return 16 if array(self.lowered, op["weights"]).size == 1 else self.made.weight_bits

    def slot(self, op: Operation) -> int:
        """How many outputs a synapse operation has."""
        if op.kind == "scatter" and op["ring"]:
            return next(a["size"] for a in self.old if a.kind == "arrive" and a["ring"] == op["out"])
        return array(self.lowered, op["out"]).size

    def root(self, number: int) -> int:
        """The array that a flowing one has its format from."""
        op = self.maker.get(number)
        if op is not None and (op.kind in ("echo", "maximum") or (op.kind == "relabel" and self.moves(op))):
            return self.root(op["value"])
        return number

    def moves(self, op: Operation) -> bool:
        return bool((array(self.lowered, op["factors"]) == 1).all())

    def state_bits(self, size: float) -> int:
        return min(max(27 - ceil(log2(max(size, 1.0))), 0), MOST_BITS)

    def flowing(self, number: int) -> Incoming:
        """A format of 16 bits, or fewer, with twice the room that the calibration asks for."""
        bits = self.allowed.get(self.root(number), NARROW)
        size = self.seen.largest.get(number, 0.0)
        fraction = bits - ceil(log2(2 * size)) if size > 0 else bits
        return Incoming(min(max(fraction, 0), MOST_BITS), -(2**bits) + 1, 2**bits - 1)

    def format(self, number: int) -> Incoming:
        if number not in self.made.formats:
            self.made.formats[number] = self.new_format(number)
        return self.made.formats[number]

    def new_format(self, number: int) -> Incoming:
        if number in self.spikes:
            return SPIKE
        root = self.root(number)
        if root != number:
            return self.format(root)
        op = self.maker.get(number)
        if op is not None and op.kind == "neuron":
            one = self.plan(op).instructions[self.plan(op).output]
            if number not in self.narrow:
                return Incoming(one.bits, one.low, one.high)
            flows = self.flowing(number)
            return flows if one.bits else Incoming(0, flows.low, flows.high)
        if number in self.narrow:
            flows = self.flowing(number)
            whole = op is not None and op.kind == "frame" and self.seen.whole
            return Incoming(0, flows.low, flows.high) if whole else flows
        users = [n for n in self.neurons() if n["x"] == number]
        size = self.inside[users[0]["out"]] if users else self.seen.largest[number]
        return Incoming(self.state_bits(size), -LIMIT, LIMIT)

    def plan(self, op: Operation) -> Plan:
        if op["out"] not in self.made.plans:
            bits, step = self.state_bits(self.inside[op["out"]]), op.step.step
            given = {"x": self.format(op["x"]), **{f"s:{s}": Incoming(bits, -LIMIT, LIMIT) for s in step.states}}
            fixed = [array(self.lowered, a.number) for a in op.step.fixed]
            self.made.plans[op["out"]] = planned(step, fixed, bits, given)
            for state in op.step.states:
                self.made.formats[state.number] = Incoming(bits, -LIMIT, LIMIT)
        return self.made.plans[op["out"]]

    def add(self, kind: str, **words: int) -> None:
        self.made.ops.append(Operation(kind, words))

    def memory(self, size: int) -> int:
        number = len(self.lowered.arrays) + len(self.made.arrays)
        self.made.arrays[number] = np.zeros(size, np.int64)
        return number

    def operations(self) -> None:
        last = {op["out"]: i for i, op in enumerate(self.old) if op.kind in ("fill", "dense", "scatter", "arrive")}
        for i, op in enumerate(self.old):
            if op.kind in ("fill", "dense", "scatter", "arrive"):
                number = op["out"]
                if op.kind != "scatter" or not op["ring"]:
                    first = next(j for j, o in enumerate(self.old) if o.words.get("out") == number)
                    if first == i:
                        self.begin(number)
                    self.sum(op)
                    if last[number] == i:
                        self.add("join", out=number, size=array(self.lowered, number).size)
                else:
                    self.sum(op)
                continue
            if op.kind == "neuron":
                self.plan(op)
            if op.kind in ("relabel", "time_pool"):
                self.scale(op)
            for name in ("value", "out"):
                if name in op.words:
                    self.format(op[name])
            if op.kind == "echo":
                self.made.formats[op["past"]] = self.format(op["value"])
            if op.kind == "time_pool":
                bits = self.format(op["value"]).bits
                self.made.formats[op["sum"]] = Incoming(bits, -(2**31), 2**31 - 1)
            self.made.ops.append(op)

    def begin(self, number: int) -> None:
        """Where the sums of an array go: into itself where there is one and 32 bits for it, else each into its own."""
        mine = [op for op in self.old if op.words.get("out") == number]
        size = array(self.lowered, number).size
        sums = [op for op in mine if op.kind in ("dense", "scatter")]
        copies = [op for op in mine if op.kind == "fill" and op["bias"] in self.lowered.changing]
        bits = self.format(number).bits
        bias = np.zeros(size)
        parts: list[tuple[int, np.ndarray]] = []
        most = np.zeros(size)
        alone = len(sums) < 2 and not copies and number not in self.narrow
        for op in copies:
            x = self.format(op["bias"])
            parts.append((op["bias"], np.full(size, bits - x.bits)))
            most += max(-x.low, x.high) * 2.0 ** (bits - x.bits)
        for op in mine:
            if op.words.get("bias", NONE) not in (NONE, *self.lowered.changing):
                bias += array(self.lowered, op["bias"])
            if op.kind in ("dense", "scatter"):
                place = number if alone else self.memory(size)
                self.add("zero", out=place, size=size)
                fraction, reach = self.weigh(op, size)
                parts.append((place, bits - fraction))
                most += reach * 2.0 ** (bits - fraction)
                self.places[id(op)] = place
            elif op.kind == "arrive":
                senders = [s for s in self.old if s.kind == "scatter" and s["out"] == op["ring"]]
                fraction, reach = self.weigh(senders[0], size)
                self.places[id(op)] = place = number if alone else self.memory(size)
                parts.append((place, bits - fraction))
                most += reach * 2.0 ** (bits - fraction)
                self.made.formats[op["ring"]] = Incoming(int(fraction.max()), -(2**31), 2**31 - 1)
        whole = np.clip(np.rint(bias * 2.0**bits), -LIMIT, LIMIT).astype(np.int64)
        fits = bool((most + np.abs(whole) + 2**30 < 2**31).all()) and all((by >= 0).all() for _, by in parts)
        self.made.joins[number] = Join(tuple(parts), whole, fits)

    def weigh(self, op: Operation, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Make an operation's weights whole; the fractional bits of its sums, and how large they can be."""
        x = self.format(op["value"])
        whole, fraction, reach = quantised(self.lowered, op, self.bits_of(op), max(-x.low, x.high), size)
        self.made.arrays[op["weights"]] = whole
        return fraction + x.bits, reach

    def sum(self, op: Operation) -> None:
        if op.kind == "fill":
            return
        if op.kind == "scatter" and op["ring"]:
            arrive = next(a for a in self.old if a.kind == "arrive" and a["ring"] == op["out"])
            self.format(op["value"])
            self.format(arrive["out"])
            self.made.ops.append(op)
        else:
            self.made.ops.append(Operation(op.kind, {**op.words, "out": self.places[id(op)], "bias": NONE}))

    def scale(self, op: Operation) -> None:
        x, y = self.format(op["value"]), self.format(op["out"])
        if op.kind == "time_pool":
            if op["steps"] > 2**16:
                do = "Pool in two layers."
                raise Refusal("TimePool", expected="at most 65536 steps", got=str(op["steps"]), do=do)
            by = 30 + x.bits - y.bits
            self.made.factors[op["out"]] = by, round(2**30 / op["steps"])
            return
        factors = array(self.lowered, op["factors"])
        if self.moves(op):
            self.made.factors[op["out"]] = 0, 1
            return
        own = 14 - ceil(log2(max(float(np.abs(factors).max()), 2.0**-14)))
        by = own + x.bits - y.bits
        if by < 0:  # the output can't have more bits than there are
            self.made.formats[op["out"]] = Incoming(y.bits + by, y.low, y.high)
            by = 0
        self.made.factors[op["out"]] = by, 1
        self.made.arrays[op["factors"]] = np.rint(factors * 2.0**own).astype(np.int64)

    def remember(self) -> None:
        made = self.made
        for number, kind in made.formats.items():
            if number in self.lowered.changing and made.arrays[number].dtype == np.float32:
                made.arrays[number] = np.rint(made.arrays[number] * 2.0**kind.bits).astype(np.int64)
        keep = {*self.lowered.states.values(), *written(self.old)}
        index = {op[n] for op in self.old for n in ("index", "mark", "out_index", "out_mark") if n in op.words}
        for number in sorted(keep - index):
            made.memory[f"m{number}"] = number
            made.arrays[number] = made.arrays[number].astype(np.int64)
