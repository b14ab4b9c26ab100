"""One step of many neurons in place, for engines: states are updated where they lie, and who is active is listed.

A kernel is `void f(i64* args, i64 low, i64 high)` and works on the vectors low..high of `LANES` neighbouring neurons. `args`
holds the number of neurons, the step, the addresses of the list and of its length, then those of inputs and outputs.
What follows from parameters alone is computed once, by a kernel of its own.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from ranvier.compile.build import build_llvm
from ranvier.compile.llvm_operations import I32, I64, LANES, PTR, STORED, Math, loop, splat
from ranvier.compile.program import Program
from ranvier.compile.symbol import BOOLEAN, Symbol, inputs, topological


@dataclass(eq=False)
class Advance:
    """A neuron's step made ready for a number of neurons: `table` is what its kernel `call` is given.

    Arrays: x, what comes in; y, what goes out; states; `active`, who gives out something, of which `count[0]` are valid.
    """

    call: Any
    table: np.ndarray
    x: np.ndarray
    y: np.ndarray
    states: dict[str, np.ndarray]
    active: np.ndarray
    count: np.ndarray
    fixed: list[np.ndarray] = field(repr=False)

    @property
    def address(self) -> int:
        """Where the kernel's code lies."""
        return address(self.call)

    def __call__(self) -> np.ndarray:
        """Advance all neurons by one step from the present `x`; who is active."""
        self.count[0] = 0
        self.call(self.table.ctypes.data, 0, -(-len(self.x) // LANES))
        self.table[1] += 1
        return self.active[: self.count[0]]


def advance(
    program: Program,
    parameters: dict[str, np.ndarray],
    rest: Sequence[float],
    neurons: int,
    x: np.ndarray | None = None,
) -> Advance:
    """The step of `program` for `neurons` neurons; a parameter has one value, or one for each neuron.

    >>> from ranvier.nn.neurons.lif import LIF
    >>> lif = LIF(tau=2.0)
    >>> step = advance(lif._program(()), {k: np.float32([getattr(lif, k)]) for k in lif.declared}, [0.0], 3)
    >>> step.x[:] = [0.0, 1.0, 3.0]; step().tolist(), step.states["v"].tolist()
    ([2], [0.0, 0.5, 0.0])
    """
    call, fixed = prepared(program, parameters, neurons)
    x = np.zeros(neurons, np.float32) if x is None else x
    y = np.zeros(neurons, np.float32)
    states = {k: np.full(neurons, r, np.float32) for k, r in zip(program.states, rest, strict=True)}
    active, count = np.zeros(neurons + LANES, np.int32), np.zeros(1, np.int64)
    given: list[np.ndarray] = [x, *states.values(), *fixed]
    arrays: list[np.ndarray] = [active, count, *given, y, *states.values()]
    table = np.array([neurons, 0, *(a.ctypes.data for a in arrays)], np.int64)
    return Advance(call, table, x, y, states, active, count, fixed)


def prepared(program: Program, parameters: dict[str, np.ndarray], neurons: int) -> tuple[Any, list[np.ndarray]]:
    """The kernel, and what it uses that follows from parameters alone.

    Its table: neurons, step, list, count, then x, the states, what is fixed, then y and the states once more.
    """
    values = [np.ascontiguousarray(parameters[k], np.float32).reshape(-1) for k in program.parameters]
    named = {f"p:{k}": value for k, value in zip(program.parameters, values, strict=True)}
    fixed = _fixed(program, named, neurons)
    return build_llvm(_step(program, tuple(len(f) == 1 for f in fixed))), fixed


def address(call: Any) -> int:
    """Where a kernel's code lies."""
    return ctypes.cast(call, ctypes.c_void_p).value or 0


@dataclass(frozen=True)
class Rest:
    """A neuron's silent steps as one: k of them lead from v to point + exp(k decay) (v - point) + k slope."""

    decay: np.ndarray
    point: np.ndarray
    slope: np.ndarray


def resting(program: Program, parameters: dict[str, np.ndarray], x: np.ndarray) -> Rest | None:
    """How each neuron goes on while its input stays `x` and it does not fire; None where that is no closed form, or it would.

    The step's graph tells: there is one state, the output is its spike, and without the spike the new state is a v + b with
    0 <= a <= 1, and its end lies below the threshold.

    >>> from ranvier.nn.neurons.lif import LIF
    >>> lif = LIF(tau=2.0)
    >>> rest = resting(lif._program(()), {k: np.float32([getattr(lif, k)]) for k in lif.declared}, np.zeros(1, np.float32))
    >>> float(np.exp(rest.decay[0])), float(rest.point[0])
    (0.5, 0.0)
    """
    if len(program.states) != 1 or program.output.op != "spike":
        return None
    after, margin = program.after[0], program.output.args[0]
    state = f"s:{program.states[0]}"
    if _degree(after, state) != 1 or _degree(margin, state) != 1:
        return None
    zero, one = (_silent(program, parameters, x, value) for value in (0.0, 1.0))
    a, b = (one[0] - zero[0]).astype(np.float64), zero[0].astype(np.float64)
    if (a < -1e-6).any() or (a > 1 + 1e-6).any():
        return None
    a = a.clip(0.0, 1.0)  # differences of rounded numbers
    still = a >= 1 - 1e-7
    point = np.where(still, 0.0, b / np.where(still, 1.0, 1 - a))
    end = zero[1] + (one[1] - zero[1]) * point
    if (end >= 0).any() or (one[1] < zero[1] - 1e-6).any() or (still & (b > 0)).any():
        return None
    with np.errstate(divide="ignore"):
        decay = np.where(still, 0.0, np.log(a))
    return Rest(*(part.astype(np.float32) for part in (decay, point, np.where(still, b, 0.0))))


def _degree(symbol: Symbol, state: str) -> int | None:
    """The degree of a symbol in a state where nothing fires: 0, 1, or None for what is no line."""
    if symbol.op == "spike":
        return 0
    if symbol.op == "input":
        return int(symbol.value == state)
    each = [_degree(a, state) for a in symbol.args]
    if None in each:
        return None
    degrees = [d for d in each if d is not None]
    if symbol.op in ("add", "sub", "neg", "detach"):
        return max(degrees)
    if symbol.op == "mul":
        return sum(degrees) if sum(degrees) < 2 else None
    if symbol.op == "div" and degrees[1] == 0:
        return degrees[0]
    return 0 if not any(degrees) else None


def _silent(
    program: Program, parameters: dict[str, np.ndarray], x: np.ndarray, state: float
) -> tuple[np.ndarray, np.ndarray]:
    """The new state, and the spike's argument, of a step from `state` with input x in which nothing fires."""
    _, fixed = prepared(program, parameters, len(x))
    every = topological([program.output, *program.after, *program.fixed])
    symbols = {s.value: s for s in every if s.op == "input"}
    names = ["x", *(f"s:{k}" for k in program.states)]
    given = [(symbols.get(name), False) for name in names]
    given += [(f, len(array) == 1) for f, array in zip(program.fixed, fixed, strict=True)]
    outputs = [program.after[0], program.output.args[0]]
    found = [np.zeros(len(x), np.float32) for _ in outputs]
    arrays = [np.ascontiguousarray(x, np.float32), np.full(len(x), state, np.float32), *fixed, *found]
    table = np.array([len(x), 0, 0, 0, *(a.ctypes.data for a in arrays)], np.int64)
    build_llvm(_elementwise(given, outputs, listed=False, silent=True))(table.ctypes.data, 0, -(-len(x) // LANES))
    return found[0], found[1]


@cache
def _step(program: Program, shared: tuple[bool, ...]) -> str:
    names = ["x", *(f"s:{k}" for k in program.states)]
    every = topological([program.output, *program.after, *program.fixed])
    symbols = {s.value: s for s in every if s.op == "input"}
    given = [(symbols.get(name), False) for name in names] + list(zip(program.fixed, shared, strict=True))
    return _elementwise(given, [program.output, *program.after], listed=True)


def _fixed(program: Program, named: dict[str, np.ndarray], neurons: int) -> list[np.ndarray]:
    """What the step uses of its parameters: one value where all it follows from have one, else one for each neuron."""
    if not program.fixed:
        return []
    leaves = [s for s in topological(program.fixed) if s.op == "input"]
    many = [any(len(named[k]) > 1 for k in inputs([f])) for f in program.fixed]
    size = neurons if any(many) else 1
    arrays = [np.broadcast_to(named[s.value], size).copy() if size > 1 else named[s.value] for s in leaves]
    out = [np.zeros(size, np.float32) for _ in program.fixed]
    source = _elementwise([(s, False) for s in leaves], [f.to() for f in program.fixed], listed=False)
    table = np.array([size, 0, 0, 0, *(a.ctypes.data for a in (*arrays, *out))], np.int64)
    build_llvm(source)(table.ctypes.data, 0, -(-size // LANES))
    return [o if m else o[:1].copy() for o, m in zip(out, many, strict=True)]


def _elementwise(
    given: Sequence[tuple[Symbol | None, bool]], outputs: Sequence[Symbol], listed: bool, silent: bool = False
) -> str:
    """A kernel from arrays, or single values that all share, to arrays; `listed`: who has an output that is not 0.

    `silent`: every spike counts as 0.
    """
    module = ir.Module(name="kernel")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), name="kernel")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    number = STORED["float32"]
    math = Math(module, b, number)
    table, low, high = function.args

    def word(position: int) -> ir.Value:
        return b.load(b.gep(table, [I64(position)], source_etype=I64), typ=I64)

    size, t = word(0), math.steps(word(1))
    active, count = (b.inttoptr(word(i), PTR) for i in (2, 3))
    places = [b.inttoptr(word(4 + i), PTR) for i in range(len(given) + len(outputs))]
    once: dict[int, ir.Value] = {}
    for (symbol, shared), place in zip(given, places, strict=False):
        if symbol is not None and shared:
            once[symbol.number] = _truth(math, symbol, math.splat(b.load(place, typ=number)))

    def vectors(j: ir.Value, mask: ir.Value | None) -> None:
        def at(place: ir.Value) -> ir.Value:
            return b.gep(place, [j], source_etype=number)

        def read(place: ir.Value) -> ir.Value:
            if mask is None:
                return b.load(at(place), typ=math.vector, align=4)
            return math.masked("load", math.vector, [at(place), I32(4), mask, ir.Constant(math.vector, None)])

        here = dict(once)
        for (symbol, shared), place in zip(given, places, strict=False):
            if symbol is not None and not shared:
                here[symbol.number] = _truth(math, symbol, read(place))

        def known(symbol: Symbol) -> ir.Value | None:
            if silent and symbol.op == "spike":
                return math.constant(0.0)
            return t if symbol.op == "input" and symbol.value == "t" else here.get(symbol.number)

        results = math.evaluate(outputs, known)
        for value, place in zip(results, places[len(given) :], strict=True):
            if mask is None:
                b.store(value, at(place), align=4)
            else:
                math.masked("store", math.vector, [value, at(place), I32(4), mask])
        if listed:
            hot = math.compare("!=", results[0], math.constant(0.0))
            _listed(math, b.and_(hot, mask) if mask is not None else hot, j, active, count)

    whole = b.udiv(size, I64(LANES))
    end = b.select(b.icmp_unsigned("<", high, whole), high, whole)
    with loop(b, low, end) as i:
        vectors(b.mul(i, I64(LANES)), None)
    with b.if_then(b.icmp_unsigned(">", high, whole), likely=False):
        j = b.mul(whole, I64(LANES))
        lanes = ir.Constant(ir.VectorType(I32, LANES), [I32(i) for i in range(LANES)])
        vectors(j, b.icmp_unsigned("<", lanes, splat(b, b.trunc(b.sub(size, j), I32), LANES)))
    b.ret_void()
    return str(module)


def _truth(math: Math, symbol: Symbol, value: ir.Value) -> ir.Value:
    return math.compare("!=", value, math.constant(0.0)) if symbol.op in BOOLEAN else value


def _listed(math: Math, hot: ir.Value, j: ir.Value, active: ir.Value, count: ir.Value) -> None:
    """Append the numbers of the lanes that are hot to the list."""
    b, kind = math.b, ir.VectorType(I32, LANES)
    bits = b.bitcast(hot, ir.IntType(LANES))
    with b.if_then(b.icmp_unsigned("!=", bits, ir.IntType(LANES)(0)), likely=False):
        lanes = ir.Constant(kind, [I32(i) for i in range(LANES)])
        numbers = b.add(splat(b, b.trunc(j, I32), LANES), lanes)
        before = b.load(count, typ=I64)
        place = b.gep(active, [before], source_etype=I32)
        name = f"llvm.experimental.vector.compress.v{LANES}i32"
        # in registers: compressed stores take some processors a hundred cycles; the list has room for a vector more
        packed = math.declared(name, kind, [numbers, hot, ir.Constant(kind, None)])
        b.store(packed, place, align=4)
        found = math.declared(f"llvm.ctpop.i{LANES}", ir.IntType(LANES), [bits])
        b.store(b.add(before, b.zext(found, I64)), count)
