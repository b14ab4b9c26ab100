"""A program as the printer sees it, in floats or in whole numbers: operations, arrays, and the C type of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ranvier.compile.fixed_point import Incoming
from ranvier.deploy.engine.program import Program
from ranvier.deploy.fixed_point.program import FixedPoint
from ranvier.deploy.operations import Operation, binary, operations, written

_ROLES = (
    *("value", "index", "mark", "order", "out", "bias", "weights", "starts", "runs", "ring", "head", "past", "delays"),
    *("out_index", "out_mark", "sum", "phase", "places", "factors", "x"),
)


@dataclass
class Printed:
    """What is printed; `whole` where it is in whole numbers."""

    program: Program
    whole: FixedPoint | None
    ops: list[Operation] = field(init=False)
    arrays: Mapping[int, np.ndarray] = field(init=False)
    roles: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        lowered = self.program.lowered
        old = operations(lowered)
        self.ops = old if self.whole is None else self.whole.ops
        self.arrays = (
            {n: a for n, a in enumerate(lowered.arrays) if isinstance(a, np.ndarray)}
            if self.whole is None
            else self.whole.arrays
        )
        self.spikes = binary(lowered, old)
        self.changing = written(self.ops) | set(lowered.states.values())
        self.roles = {}
        for op in self.ops:
            for name, number in op.words.items():
                if name in _ROLES and number >= 0:
                    self.roles.setdefault(number, {"out_index": "index", "out_mark": "mark"}.get(name, name))
            if op.neuron is not None:
                for state, at in zip(op.neuron.step.states, op.neuron.states, strict=True):
                    self.roles[at.number] = state
                for at in op.neuron.fixed:
                    self.roles[at.number] = "fixed"
        self.listed = {op["index"] for op in self.ops if "index" in op.words and op.kind not in ("frame", "list")}

    @property
    def number(self) -> str:
        """The type of what is reckoned with."""
        return "float" if self.whole is None else "int32_t"

    @property
    def taken(self) -> str:
        """The type of what comes in."""
        return "float" if self.whole is None else "int16_t"

    def name(self, number: int) -> str:
        role = self.roles.get(number, "sum")
        return f"{'count' if role == 'mark' else role}_{number}"

    def format(self, number: int) -> Incoming:
        """How whole numbers lie in an array."""
        assert self.whole is not None
        return self.whole.formats[number]

    def type(self, number: int) -> str:
        role = self.roles.get(number, "sum")
        data = self.arrays[number]
        if role in ("mark", "head", "phase"):
            return "int32_t"
        if role == "index":
            return "uint16_t" if data.size <= 2**16 else "uint32_t"
        if number in self.spikes:
            return "uint8_t"
        if number in self.changing and self.whole is not None:
            kind = self.whole.formats.get(number)
            return "int16_t" if kind and kind.low >= -(2**15) and kind.high < 2**15 else "int32_t"
        return smallest(data)


def smallest(data: np.ndarray) -> str:
    """The C type that holds an array's numbers.

    >>> smallest(np.array([-1, 200])), smallest(np.array([0, 200])), smallest(np.float32([0.5]))
    ('int16_t', 'uint8_t', 'float')
    """
    if data.dtype.kind == "f":
        return "float"
    low, high = int(data.min(initial=0)), int(data.max(initial=0))
    for name, least, most in (
        *(("uint8_t", 0, 255), ("int8_t", -128, 127), ("uint16_t", 0, 65535), ("int16_t", -(2**15), 2**15 - 1)),
        ("int32_t", -(2**31), 2**31 - 1),
    ):
        if least <= low and high <= most:
            return name
    return "int64_t"
