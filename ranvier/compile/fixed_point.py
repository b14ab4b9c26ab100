"""A neuron's step in whole numbers: a plan of instructions, carried out by numpy or printed as C, to the same bits.

A value of `bits` fractional bits stands for value / 2^bits. Every result is held in 32 bits: what could leave them is
clipped, which is left out where intervals show that it can't. Products are of 64 bits, shifted right with halves rounded
up. What follows from parameters alone is rounded once, when the plan is made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ranvier.compile.program import Program
from ranvier.compile.symbol import BOOLEAN, Symbol
from ranvier.core.checks import Refusal

LOW, HIGH = -(2**31), 2**31 - 1
LIMIT = 2**29
"""Where states are clipped, so that sums and differences of them need no clipping."""
_COMPARED = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


@dataclass(frozen=True, eq=False)
class Instruction:
    """`op` of earlier results; the result lies within low ... high, has `bits`, and is clipped there with `clip`."""

    op: str
    args: tuple[int, ...]
    bits: int
    low: int
    high: int
    clip: bool = False
    shift: int = 0
    value: np.ndarray | None = None
    """What a "constant" is: one number, or one for each neuron."""
    name: str = ""
    """What an "input" is."""
    wide: bool = False
    """Whether what is clipped or shifted needs 64 bits."""


@dataclass(frozen=True)
class Plan:
    """A step: instructions, and where its output and its new states are among them."""

    instructions: tuple[Instruction, ...]
    output: int
    after: tuple[int, ...]


@dataclass(frozen=True)
class Incoming:
    """What is known of an input: its fractional bits and between which integers it lies."""

    bits: int
    low: int
    high: int


def planned(program: Program, fixed: Sequence[np.ndarray], bits: int, given: Mapping[str, Incoming]) -> Plan:
    """The plan of a program's step whose states have `bits` fractional bits; `fixed` are the values of program.fixed.

    Raises: Refusal for a step with a function, or a division by what changes.

    >>> from ranvier.compile.program import program
    >>> step = program(lambda x, p, s, draws: [s["v"] * p["a"] + x] * 2, ["a"], ["v"])
    >>> known = Incoming(8, -LIMIT, LIMIT)
    >>> plan = planned(step, [np.float32([0.75])], 8, {"x": known, "s:v": known})
    >>> results = carried_out(plan, {"x": np.array([256]), "s:v": np.array([-3])})
    >>> results[plan.output]  # 1 - 3 / 256 * 0.75 = 0.9912, in units of 1 / 256
    array([254])
    """
    known = {symbol.number: value.astype(np.float64) for symbol, value in zip(program.fixed, fixed, strict=True)}
    planner = _Planner(bits, given, known)
    output = planner.changing(planner.of(program.output))
    after = [planner.clipped(planner.aligned(planner.changing(planner.of(s)), bits), LIMIT) for s in program.after]
    return Plan(tuple(planner.made), output, tuple(after))


_Value = int | np.ndarray
"""The number of an instruction; or what is fixed, which has the bits that whoever uses it wants."""


class _Planner:
    def __init__(self, bits: int, given: Mapping[str, Incoming], known: Mapping[int, np.ndarray]) -> None:
        self.bits, self.given, self.known = bits, given, known
        self.made: list[Instruction] = []
        self.done: dict[int, _Value] = {}

    def of(self, symbol: Symbol) -> _Value:
        if symbol.number not in self.done:
            self.done[symbol.number] = self.new(symbol)
        return self.done[symbol.number]

    def new(self, symbol: Symbol) -> _Value:
        if symbol.number in self.known:
            return self.known[symbol.number]
        if symbol.op == "constant":
            return np.array([float(symbol.value)])
        if symbol.op == "input":
            name: str = symbol.value
            known = self.given[name]
            return self.add(Instruction("input", (), known.bits, known.low, known.high, name=name))
        args = [self.of(a) for a in symbol.args]
        if symbol.op == "detach":
            return args[0]
        if symbol.op in ("and", "or", "not"):
            return self.add(Instruction(symbol.op, tuple(map(self.changing, args)), 0, 0, 1))
        if symbol.op == "mul":
            return self.product(*args)
        if symbol.op == "where":
            return self.result("where", [args[1], args[2]], self.changing(args[0]))
        if symbol.op in ("add", "sub", "maximum", "minimum") or symbol.op in BOOLEAN:
            return self.result(symbol.op, args)
        if symbol.op in _ALONE:
            return self.alone(symbol.op, self.changing(args[0]))
        what = "a division by what changes" if symbol.op == "div" else f"{symbol.op} of what changes"
        raise Refusal(
            "A step in whole numbers",
            expected="sums, products, comparisons, and functions of parameters alone",
            got=what,
            do="Export with numbers='float32', or use a neuron without it, such as LIF.",
        )

    def add(self, instruction: Instruction) -> int:
        self.made.append(instruction)
        return len(self.made) - 1

    def bounded(
        self, op: str, args: Sequence[int], bits: int, low: int, high: int, shift: int = 0, wide: bool = False
    ) -> int:
        """The instruction, clipped to 32 bits where its interval asks for it."""
        clip = low < LOW or high > HIGH
        low, high = max(low, LOW), min(high, HIGH)
        return self.add(Instruction(op, tuple(args), bits, low, high, clip, shift, wide=wide or clip))

    def constant(self, value: np.ndarray, bits: int) -> int:
        whole = np.clip(np.rint(value * 2.0**bits), LOW, HIGH).astype(np.int64)
        return self.add(Instruction("constant", (), bits, int(whole.min()), int(whole.max()), value=whole))

    def changing(self, value: _Value) -> int:
        if isinstance(value, int):
            return value
        return self.constant(value, 0 if _whole(value) else self.bits)

    def aligned(self, number: int, bits: int) -> int:
        """The value with so many fractional bits."""
        one = self.made[number]
        if one.bits == bits:
            return number
        by = bits - one.bits
        if by > 0:
            return self.bounded("left", [number], bits, one.low << by, one.high << by, by)
        half = 1 << (-by - 1)
        wide = one.low < LOW + half or one.high > HIGH - half
        low, high = one.low + half >> -by, one.high + half >> -by
        return self.bounded("right", [number], bits, low, high, -by, wide)

    def clipped(self, number: int, limit: int) -> int:
        one = self.made[number]
        if -limit <= one.low and one.high <= limit:
            return number
        low, high = max(one.low, -limit), min(one.high, limit)
        return self.add(Instruction("copy", (number,), one.bits, low, high, True))

    def alike(self, values: Sequence[_Value]) -> list[int]:
        """The values with equal fractional bits."""
        moving = [self.made[v].bits for v in values if isinstance(v, int)]
        broken = any(isinstance(v, np.ndarray) and not _whole(v) for v in values)
        bits = max([*moving, *([self.bits] if broken else []), 0])
        return [self.aligned(v, bits) if isinstance(v, int) else self.constant(v, bits) for v in values]

    def result(self, op: str, values: Sequence[_Value], condition: int | None = None) -> int:
        x, y = self.alike(values)
        a, b = self.made[x], self.made[y]
        if op == "where" and condition is not None:
            return self.add(Instruction(op, (condition, x, y), a.bits, min(a.low, b.low), max(a.high, b.high)))
        if op in _COMPARED:
            return self.add(Instruction(op, (x, y), 0, 0, 1))
        bounds = {
            "add": (a.low + b.low, a.high + b.high),
            "sub": (a.low - b.high, a.high - b.low),
            "maximum": (max(a.low, b.low), max(a.high, b.high)),
            "minimum": (min(a.low, b.low), min(a.high, b.high)),
        }
        return self.bounded(op, (x, y), a.bits, *bounds[op])

    def product(self, x: _Value, y: _Value) -> int:
        if isinstance(x, np.ndarray):
            x, y = y, x
        x = self.changing(x)
        a = self.made[x]
        if isinstance(y, np.ndarray):
            bits = a.bits if _whole(y) else self.bits
            largest = float(np.abs(y).max())
            own = 0 if _whole(y) else max(30 - max(int(np.ceil(np.log2(max(largest, 2.0**-30)))), 0), bits - a.bits)
            y = self.constant(y, own)
        b = self.made[y]
        bits = bits if isinstance(b.value, np.ndarray) else max(a.bits, b.bits)
        shift = a.bits + b.bits - bits
        corners = [p * q for p in (a.low, a.high) for q in (b.low, b.high)]
        half = 1 << (shift - 1) if shift else 0
        wide = min(corners) + half < LOW or max(corners) + half > HIGH
        return self.bounded(
            "mul", (x, y), bits, min(corners) + half >> shift, max(corners) + half >> shift, shift, wide
        )

    def alone(self, op: str, number: int) -> int:
        a = self.made[number]
        size = max(abs(a.low), abs(a.high))
        if op in ("spike", "sign"):
            return self.add(Instruction(op, (number,), 0, -1 if op == "sign" else 0, 1))
        if op == "neg":
            return self.bounded(op, (number,), a.bits, -a.high, -a.low)
        if op == "abs":
            return self.bounded(op, (number,), a.bits, 0, size)
        if a.bits == 0:
            return number
        if op == "floor":
            return self.bounded(op, (number,), 0, a.low >> a.bits, a.high >> a.bits, a.bits)
        return self.bounded("round", (number,), 0, a.low >> a.bits, (a.high >> a.bits) + 1, a.bits, wide=True)


_ALONE = ("spike", "sign", "neg", "abs", "floor", "round")


def _whole(value: np.ndarray) -> bool:
    return bool((value == np.rint(value)).all() and (np.abs(value) < 2**15).all())


def _rounded(a: np.ndarray, shift: int) -> np.ndarray:
    """To the nearest integer, the even one at a tie, of a / 2^shift."""
    whole, rest, half = a >> shift, a & ((1 << shift) - 1), 1 << (shift - 1)
    up = (rest > half) | ((rest == half) & (whole & 1 == 1))
    nearest: np.ndarray = whole + up
    return nearest


def _chosen(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(np.asarray(condition) != 0, a, b)


_RUN: dict[str, Callable[..., np.ndarray]] = {
    "copy": lambda s, a: a,
    "add": lambda s, a, b: a + b,
    "sub": lambda s, a, b: a - b,
    "mul": lambda s, a, b: shifted(a * b, -s),
    "neg": lambda s, a: -a,
    "abs": lambda s, a: np.abs(a),
    "sign": lambda s, a: np.sign(a),
    "spike": lambda s, a: (a >= 0).astype(np.int64),
    "left": lambda s, a: shifted(a, s),
    "right": lambda s, a: shifted(a, -s),
    "floor": lambda s, a: a >> s,
    "round": lambda s, a: _rounded(a, s),
    "maximum": lambda s, a, b: np.maximum(a, b),
    "minimum": lambda s, a, b: np.minimum(a, b),
    "where": lambda s, c, a, b: _chosen(c, a, b),
    "and": lambda s, a, b: a & b,
    "or": lambda s, a, b: a | b,
    "not": lambda s, a: 1 - a,
    "lt": lambda s, a, b: (a < b).astype(np.int64),
    "le": lambda s, a, b: (a <= b).astype(np.int64),
    "gt": lambda s, a, b: (a > b).astype(np.int64),
    "ge": lambda s, a, b: (a >= b).astype(np.int64),
    "eq": lambda s, a, b: (a == b).astype(np.int64),
    "ne": lambda s, a, b: (a != b).astype(np.int64),
}


def shifted(a: np.ndarray, by: int) -> np.ndarray:
    """a * 2^by; to the right halves are rounded up."""
    return a << by if by >= 0 else (a + (1 << (-by - 1))) >> -by


def carried_out(plan: Plan, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The result of every instruction, from int64 arrays [..., neurons]."""
    results: list[np.ndarray] = []
    for one in plan.instructions:
        if one.op == "input":
            result = given[one.name]
        elif one.value is not None:
            result = one.value
        else:
            result = _RUN[one.op](one.shift, *(results[a] for a in one.args))
        results.append(np.clip(result, one.low, one.high) if one.clip else result)
    return results


_TEXT = {
    "copy": "{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "neg": "-{0}",
    "abs": "{0} < 0 ? -{0} : {0}",
    "sign": "({0} > 0) - ({0} < 0)",
    "spike": "{0} >= 0",
    "maximum": "{0} > {1} ? {0} : {1}",
    "minimum": "{0} < {1} ? {0} : {1}",
    "where": "{0} ? {1} : {2}",
    "and": "{0} && {1}",
    "or": "{0} || {1}",
    "not": "!{0}",
    **{op: f"{{0}} {sign} {{1}}" for op, sign in _COMPARED.items()},
}


def c_statements(
    plan: Plan, given: Mapping[str, str], arrays: Callable[[np.ndarray], str]
) -> tuple[list[str], list[str]]:
    """Assignments in C, and what each result is called; `arrays` gives the C expression of one constant for each neuron."""
    lines: list[str] = []
    names: list[str] = []
    for number, one in enumerate(plan.instructions):
        if one.op == "input":
            names.append(given[one.name])
            continue
        if one.value is not None:
            names.append(c_integer(int(one.value[0])) if one.value.size == 1 else arrays(one.value))
            continue
        args = [names[a] for a in one.args]
        if one.wide:  # what may pass 32 bits on the way
            args = [a if one.op == "where" and i == 0 else f"(int64_t){a}" for i, a in enumerate(args)]
        if one.op in _TEXT:
            text = _TEXT[one.op].format(*args)
        elif one.op == "left":
            text = f"{args[0]} * {1 << one.shift}"
        elif one.op == "floor":
            text = f"{args[0]} >> {one.shift}"
        elif one.op == "round":
            even = f"(({args[0]} >> {one.shift}) & 1)"
            text = f"({args[0]} + {(1 << (one.shift - 1)) - 1} + {even}) >> {one.shift}"
        else:
            product = args[0] if one.op == "right" else f"{args[0]} * {args[1]}"
            half = f"(INT64_C(1) << {one.shift - 1})" if one.wide else str(1 << (one.shift - 1)) if one.shift else ""
            text = f"({product} + {half}) >> {one.shift}" if one.shift else product
        if one.clip:
            text = f"clip{64 if one.wide else 32}({text}, {c_integer(one.low)}, {c_integer(one.high)})"
        elif one.wide:
            text = f"(int32_t)({text})"
        names.append(f"t{number}")
        lines.append(f"const int32_t t{number} = {text};")
    return lines, names


def c_integer(value: int) -> str:
    """An int32_t of C: the least one has no literal."""
    return "(-2147483647 - 1)" if value == LOW else str(value)
