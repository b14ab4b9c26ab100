"""CPU kernels: a program printed as LLVM IR with explicit vectors, the states in a block that stays in the first-level cache.

A kernel is `void f(i64* args, i64 low, i64 high)` and works on the blocks low..high of `BLOCK` neighbouring neurons, time
step by time step. `args` holds addresses and sizes in the order of `arguments`. Neurons past the last whole vector are done
once more with masked loads and stores.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from llvmlite import ir

from ranvier.compile.kernel import Variant, arguments, is_size
from ranvier.compile.program import Program
from ranvier.compile.symbol import BOOLEAN, Symbol, inputs, topological

LANES, BLOCK = 16, 512
"""Floats in a vector; neurons in a block."""

I64, I32, I16, PTR = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.PointerType()
_FLOAT, _DOUBLE, _HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
STORED = {"float32": _FLOAT, "float64": _DOUBLE, "float16": _HALF, "bfloat16": I16}
_CONTRACT = ("contract",)


def source(program: Program, variant: Variant, backward: bool) -> str:
    """The kernel as LLVM IR."""
    return str(_Kernel(program, variant, backward).module)


class _Kernel:
    def __init__(self, program: Program, variant: Variant, backward: bool) -> None:
        self.program, self.variant, self.steps = program, variant, variant.steps
        self.number = STORED[variant.number]
        self.vector = ir.VectorType(self.number, LANES)
        self.module = ir.Module(name="kernel")
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), name="kernel")
        self.b = b = ir.IRBuilder(function.append_basic_block("entry"))
        self.math = _Math(self.module, b, self.number)
        table, low, high = function.args
        self.arg = {}
        for position, name in enumerate(arguments(program, variant, backward)):
            value = b.load(b.gep(table, [I64(position)], source_etype=I64), typ=I64)
            self.arg[name] = value if is_size(name) else b.inttoptr(value, PTR)
        self.arrays: dict[str, ir.Value] = {}
        scratch = [
            *(f"s:{k}" for k in program.states),
            *(f"fixed:{i}" for i, f in enumerate(program.fixed) if self.by_column(f)),
        ]
        scratch += [f"p:{k}" for k in program.parameters if k in variant.columns]
        if backward:
            scratch += [*(f"gs:{k}" for k in program.states), *(f"gh:{i}" for i in program.grad_fixed)]
        for name in scratch:
            self.arrays[name] = self.block_array(1)
        if backward:
            for k in program.states:
                self.arrays[f"past:{k}"] = self.block_array(self.steps)
        self.place = b.alloca(I64), b.alloca(I64)  # where in a parameter the present neuron reads
        self.scalars = self._scalars()
        with self.loop(low, high) as block:
            self.first = b.mul(block, I64(BLOCK))
            left = b.sub(self.arg["M"], self.first)
            self.size = b.select(b.icmp_unsigned("<", left, I64(BLOCK)), left, I64(BLOCK))
            self._fixed()
            self._backward() if backward else self._forward()
        b.ret_void()

    # --- the two time loops

    def _forward(self) -> None:
        p, v, b = self.program, self.variant, self.b
        self.each_vector(self.start)
        with self.segments() as (segment, begin, end):
            if v.checkpoints:
                with b.if_then(b.icmp_unsigned(">", segment, I64(0))):
                    self.each_vector(lambda j, mask: self.save_states("checkpoint", b.sub(segment, I64(1)), j, mask))
            with self.loop(begin, end) as t:

                def step(j: ir.Value, mask: ir.Value | None) -> None:
                    env = self.environment(j, {"x": self.load("x", t, j, mask), "t": self.math.steps(t)})
                    y, *after = self.evaluate([p.output, *p.after], env)
                    self.store("y", t, j, mask, y)
                    for k, value in zip(p.states, after, strict=True):
                        self.put(f"s:{k}", j, value)
                        if k in v.record:
                            self.store(f"record:{k}", t, j, mask, value)

                self.each_vector(step)
        self.each_vector(lambda j, mask: self.save_states("final", I64(0), j, mask))

    def _backward(self) -> None:
        p, v, b = self.program, self.variant, self.b

        def begin_gradients(j: ir.Value, mask: ir.Value | None) -> None:
            for k in p.states:
                self.put(f"gs:{k}", j, self.load(f"gs:{k}", I64(0), j, mask) if v.final else self.math.constant(0.0))
            for i in p.grad_fixed:
                self.put(f"gh:{i}", j, self.math.constant(0.0))

        self.each_vector(begin_gradients)
        with self.segments(reverse=True) as (segment, begin, end):
            first = b.icmp_unsigned("==", segment, I64(0))
            with b.if_else(first) as (then, otherwise):
                with then:
                    self.each_vector(self.start)
                with otherwise:
                    self.each_vector(lambda j, mask: self.load_states("checkpoint", b.sub(segment, I64(1)), j, mask))
            with self.loop(begin, end) as t:

                def again(j: ir.Value, mask: ir.Value | None) -> None:
                    env = self.environment(j, {"x": self.load("x", t, j, mask), "t": self.math.steps(t)})
                    for k in p.states:
                        self.put(f"past:{k}", self.past(t, begin, j), self.get(f"s:{k}", j))
                    for k, value in zip(p.states, self.evaluate(p.after, env), strict=True):
                        self.put(f"s:{k}", j, value)

                self.each_vector(again)
            with self.loop(I64(0), b.sub(end, begin)) as back:
                t = b.sub(b.sub(end, I64(1)), back)

                def step(j: ir.Value, mask: ir.Value | None) -> None:
                    given = {"x": self.load("x", t, j, mask), "t": self.math.steps(t)}
                    given["gy"] = self.load("gy", t, j, mask) if v.spikes else self.math.constant(0.0)
                    for k in p.states:
                        given[f"s:{k}"] = self.get(f"past:{k}", self.past(t, begin, j))
                        g = self.get(f"gs:{k}", j)
                        given[f"gs:{k}"] = b.fadd(g, self.load(f"grecord:{k}", t, j, mask)) if k in v.record else g
                    env = self.environment(j, given)
                    wanted = [*([p.grad_x] if v.grad_x else []), *p.grad_states, *p.grad_fixed.values()]
                    values = self.evaluate(wanted, env)
                    if v.grad_x:
                        self.store("gx", t, j, mask, values.pop(0))
                    for k in p.states:
                        self.put(f"gs:{k}", j, values.pop(0))
                    for i in p.grad_fixed:
                        self.put(f"gh:{i}", j, b.fadd(self.get(f"gh:{i}", j), values.pop(0)))

                self.each_vector(step)
        if v.grad_initial:
            self.each_vector(self.initial_gradients)
        if p.learnt:
            self.each_vector(self.parameter_gradients)

    def initial_gradients(self, j: ir.Value, mask: ir.Value | None) -> None:
        for k in self.program.states:
            self.store(f"ginitial:{k}", I64(0), j, mask, self.get(f"gs:{k}", j))

    def parameter_gradients(self, j: ir.Value, mask: ir.Value | None) -> None:
        given = {f"gh:{i}": self.get(f"gh:{i}", j) for i in self.program.grad_fixed}
        values = self.evaluate(self.program.grad_parameters, self.environment(j, given))
        for k, value in zip(self.program.learnt, values, strict=True):
            self.store(f"gp:{k}", I64(0), j, mask, value)

    # --- states and what is fixed

    def start(self, j: ir.Value, mask: ir.Value | None) -> None:
        for k, rest in zip(self.program.states, self.variant.rest, strict=True):
            given = self.load(f"initial:{k}", I64(0), j, mask) if self.variant.initial else self.math.constant(rest)
            self.put(f"s:{k}", j, given)

    def save_states(self, where: str, row: ir.Value, j: ir.Value, mask: ir.Value | None) -> None:
        for k in self.program.states:
            self.store(f"{where}:{k}", row, j, mask, self.get(f"s:{k}", j))

    def load_states(self, where: str, row: ir.Value, j: ir.Value, mask: ir.Value | None) -> None:
        for k in self.program.states:
            self.put(f"s:{k}", j, self.load(f"{where}:{k}", row, j, mask))

    def past(self, t: ir.Value, begin: ir.Value, j: ir.Value) -> ir.Value:
        return self.b.add(self.b.mul(self.b.sub(t, begin), I64(BLOCK)), j)

    def by_column(self, symbol: Symbol) -> bool:
        return any(name.removeprefix("p:") in self.variant.columns for name in inputs([symbol]))

    def _scalars(self) -> dict[int, ir.Value]:
        """Parameters that all neurons share, and what follows from them, as vectors in registers."""
        env: dict[int, ir.Value] = {}
        shared = [f for f in self.program.fixed if not self.by_column(f)]
        every = topological([*self.program.fixed, *self.program.grad_parameters])
        for symbol in every:
            if symbol.op == "input" and symbol.value.startswith("p:") and not self.by_column(symbol):
                env[symbol.number] = self.math.splat(self.b.load(self.arg[symbol.value], typ=self.number))
        for symbol, value in zip(shared, self.evaluate(shared, dict(env)), strict=True):
            env[symbol.number] = value
        return env

    def _fixed(self) -> None:
        """Parameters of this block's neurons, and what follows from them."""
        b = self.b
        for k in self.program.parameters:
            if k not in self.variant.columns:
                continue
            inner, count = self.arg[f"inner:{k}"], self.arg[f"count:{k}"]
            row, within = self.place
            b.store(b.urem(b.udiv(self.first, inner), count), row)
            b.store(b.urem(self.first, inner), within)
            with self.loop(I64(0), self.size) as c:
                value = b.load(
                    b.gep(self.arg[f"p:{k}"], [b.load(row, typ=I64)], source_etype=self.number), typ=self.number
                )
                b.store(value, b.gep(self.arrays[f"p:{k}"], [c], source_etype=self.number))
                moved = b.add(b.load(within, typ=I64), I64(1))
                wraps = b.icmp_unsigned("==", moved, inner)
                b.store(b.select(wraps, I64(0), moved), within)
                after = b.add(b.load(row, typ=I64), b.zext(wraps, I64))
                b.store(b.select(b.icmp_unsigned("==", after, count), I64(0), after), row)
        own = [(i, f) for i, f in enumerate(self.program.fixed) if self.by_column(f)]
        if own:

            def work_out(j: ir.Value, mask: ir.Value | None) -> None:
                env = dict(self.scalars)
                for symbol in topological([f for _, f in own]):
                    if symbol.op == "input" and symbol.number not in env:
                        env[symbol.number] = self.get(symbol.value, j)
                for (i, _), value in zip(own, self.evaluate([f.to() for _, f in own], env), strict=True):
                    self.put(f"fixed:{i}", j, value)

            self.each_vector(work_out)

    def environment(self, j: ir.Value, given: Mapping[str, ir.Value]) -> "_Lazy":
        """The values of inputs and fixed symbols for the neurons at j; loaded when first asked for."""
        p = self.program
        names = {f.number: f"fixed:{i}" for i, f in enumerate(p.fixed) if self.by_column(f)}
        truths = {f.number for f in p.fixed if f.op in BOOLEAN}
        places = {n: partial(self.truth if n in truths else self.get, name, j) for n, name in names.items()}
        return _Lazy(self.scalars, places, lambda name: given[name] if name in given else self.get(name, j))

    def evaluate(self, outputs: Sequence[Symbol], env: "Mapping[int, ir.Value] | _Lazy") -> list[ir.Value]:
        """The values of symbols; each is computed once."""
        done: dict[int, ir.Value] = {}

        def value(symbol: Symbol) -> ir.Value:
            if symbol.number not in done:
                known = env.find(symbol) if isinstance(env, _Lazy) else env.get(symbol.number)
                if known is None:
                    known = (
                        self.math.constant(symbol.value)
                        if symbol.op == "constant"
                        else self.math.apply(symbol, [value(a) for a in symbol.args])
                    )
                done[symbol.number] = known
            return done[symbol.number]

        return [value(symbol) for symbol in outputs]

    # --- loops, loads and stores

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
        b = self.b
        before = b.block
        head, body, done = (b.append_basic_block(k) for k in ("head", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(start, before)
        b.cbranch(b.icmp_unsigned("<", i, stop), body, done)
        b.position_at_end(body)
        yield i
        i.add_incoming(b.add(i, I64(step)), b.block)
        b.branch(head)
        b.position_at_end(done)

    @contextmanager
    def segments(self, reverse: bool = False) -> Iterator[tuple[ir.Value, ir.Value, ir.Value]]:
        """Number, begin and end of each run of steps between two checkpoints."""
        b, steps = self.b, self.arg["T"]
        count = b.udiv(b.add(steps, I64(self.steps - 1)), I64(self.steps))
        with self.loop(I64(0), count) as number:
            segment = b.sub(b.sub(count, I64(1)), number) if reverse else number
            begin = b.mul(segment, I64(self.steps))
            end = b.add(begin, I64(self.steps))
            yield segment, begin, b.select(b.icmp_unsigned("<", end, steps), end, steps)

    def each_vector(self, body: Callable[[ir.Value, ir.Value | None], None]) -> None:
        b = self.b
        whole = b.and_(self.size, I64(~(LANES - 1)))
        with self.loop(I64(0), whole, LANES) as j:
            body(j, None)
        with b.if_then(b.icmp_unsigned("<", whole, self.size), likely=False):
            left = b.trunc(b.sub(self.size, whole), I32)
            lanes = ir.Constant(ir.VectorType(I32, LANES), [I32(i) for i in range(LANES)])
            body(whole, b.icmp_unsigned("<", lanes, _splat(b, left, LANES)))

    def block_array(self, rows: int) -> ir.Value:
        array = self.b.alloca(self.vector, rows * BLOCK // LANES)
        array.type = PTR  # read and written as vectors and as single numbers
        return array

    def get(self, array: str, j: ir.Value) -> ir.Value:
        return self.b.load(self.b.gep(self.arrays[array], [j], source_etype=self.number), typ=self.vector, align=4)

    def truth(self, array: str, j: ir.Value) -> ir.Value:
        return self.math.compare("!=", self.get(array, j), self.math.constant(0.0))

    def put(self, array: str, j: ir.Value, value: ir.Value) -> None:
        self.b.store(value, self.b.gep(self.arrays[array], [j], source_etype=self.number), align=4)

    def _place(self, name: str, row: ir.Value, j: ir.Value) -> tuple[ir.Value, ir.Type]:
        stored = STORED[self.variant.io] if name in ("x", "y", "gx", "gy") else self.number
        stride = self.arg.get(f"stride:{name}", self.arg["M"])
        offset = self.b.add(self.b.mul(row, stride), self.b.add(self.first, j))
        return self.b.gep(self.arg[name], [offset], source_etype=stored), stored

    def load(self, name: str, row: ir.Value, j: ir.Value, mask: ir.Value | None) -> ir.Value:
        address, stored = self._place(name, row, j)
        kind = ir.VectorType(stored, LANES)
        if mask is None:
            raw = self.b.load(address, typ=kind, align=_bytes(stored))
        else:
            raw = self.math.masked("load", kind, [address, I32(_bytes(stored)), mask, ir.Constant(kind, None)])
        return self.math.widened(raw)

    def store(self, name: str, row: ir.Value, j: ir.Value, mask: ir.Value | None, value: ir.Value) -> None:
        address, stored = self._place(name, row, j)
        raw = self.math.narrowed(value, stored)
        if mask is None:
            self.b.store(raw, address, align=_bytes(stored))
        else:
            self.math.masked("store", raw.type, [raw, address, I32(_bytes(stored)), mask])


class _Lazy:
    def __init__(
        self,
        known: Mapping[int, ir.Value],
        places: Mapping[int, Callable[[], ir.Value]],
        read: Callable[[str], ir.Value],
    ) -> None:
        self.known, self.places, self.read = known, places, read

    def find(self, symbol: Symbol) -> ir.Value | None:
        if symbol.number in self.known:
            return self.known[symbol.number]
        if symbol.number in self.places:
            return self.places[symbol.number]()
        return self.read(symbol.value) if symbol.op == "input" else None


def _bytes(stored: ir.Type) -> int:
    return {_FLOAT: 4, _DOUBLE: 8, _HALF: 2, I16: 2}[stored]


def _splat(b: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    kind = ir.VectorType(value.type, lanes)
    one = b.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
    return b.shuffle_vector(
        one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), [I32(0)] * lanes)
    )


class _Math:
    """One line per operation."""

    def __init__(self, module: ir.Module, b: ir.IRBuilder, number: ir.Type) -> None:
        self.module, self.b, self.number = module, b, number
        self.vector = ir.VectorType(number, LANES)
        self.suffix = f"v{LANES}{'f64' if number is _DOUBLE else 'f32'}"

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.vector, [self.number(value)] * LANES)

    def splat(self, value: ir.Value) -> ir.Value:
        return _splat(self.b, value, LANES)

    def apply(self, symbol: Symbol, args: list[ir.Value]) -> ir.Value:
        return _OPERATIONS[symbol.op](self, self.b, symbol.value, *args)

    def call(self, name: str, *args: ir.Value) -> ir.Value:
        """An LLVM intrinsic on vectors."""
        return self._declared(f"llvm.{name}.{self.suffix}", self.vector, [a.type for a in args], list(args))

    def masked(self, what: str, kind: ir.Type, args: list[ir.Value]) -> ir.Value:
        element = {_FLOAT: "f32", _DOUBLE: "f64", _HALF: "f16", I16: "i16"}[kind.element]
        result = kind if what == "load" else ir.VoidType()
        return self._declared(f"llvm.masked.{what}.v{LANES}{element}.p0", result, [a.type for a in args], args)

    def _declared(self, name: str, result: ir.Type, kinds: list[ir.Type], args: list[ir.Value]) -> ir.Value:
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(result, kinds), name=name)
        return self.b.call(self.module.globals[name], args)

    def compare(self, sign: str, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.b.fcmp_unordered(sign, x, y) if sign == "!=" else self.b.fcmp_ordered(sign, x, y)

    def widened(self, raw: ir.Value) -> ir.Value:
        b = self.b
        if raw.type.element is I16:  # bfloat16 is the upper half of a float
            wide = b.shl(
                b.zext(raw, ir.VectorType(I32, LANES)), ir.Constant(ir.VectorType(I32, LANES), [I32(16)] * LANES)
            )
            return b.bitcast(wide, self.vector)
        return b.fpext(raw, self.vector) if raw.type.element is _HALF else raw

    def narrowed(self, value: ir.Value, stored: ir.Type) -> ir.Value:
        b = self.b
        if stored is I16:  # round to nearest, ties to even; NaN stays NaN
            kind = ir.VectorType(I32, LANES)
            bits = b.bitcast(value, kind)
            odd = b.and_(b.lshr(bits, ir.Constant(kind, [I32(16)] * LANES)), ir.Constant(kind, [I32(1)] * LANES))
            rounded = b.add(bits, b.add(odd, ir.Constant(kind, [I32(0x7FFF)] * LANES)))
            nan = b.fcmp_unordered("uno", value, value)
            kept = b.select(nan, ir.Constant(kind, [I32(0x7FC00000)] * LANES), rounded)
            return b.trunc(b.lshr(kept, ir.Constant(kind, [I32(16)] * LANES)), ir.VectorType(I16, LANES))
        return b.fptrunc(value, ir.VectorType(_HALF, LANES)) if stored is _HALF else value

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        return self.b.fadd(self.b.fmul(x, y, flags=_CONTRACT), z, flags=_CONTRACT)

    def exp(self, x: ir.Value) -> ir.Value:
        """float64: the system's; float32: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2], to 1 unit in the last place."""
        b = self.b
        if self.number is _DOUBLE:
            return self.call("exp", x)
        c = self.constant
        high, low = self.compare(">", x, c(89.0)), self.compare("<", x, c(-104.0))
        x = b.select(low, c(-104.0), b.select(high, c(89.0), x))
        n = self.call("rint", b.fmul(x, c(1.44269504088896)))
        r = self.fma(n, c(2.12194440e-4), self.fma(n, c(-0.693359375), x))
        y = c(1.9875691500e-4)
        for term in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            y = self.fma(y, r, c(term))
        y = b.fadd(self.fma(y, b.fmul(r, r), r), c(1.0))
        kind = ir.VectorType(I32, LANES)
        whole = self._declared(f"llvm.fptosi.sat.v{LANES}i32.{self.suffix}", kind, [self.vector], [n])
        half = b.ashr(whole, ir.Constant(kind, [I32(1)] * LANES))
        for part in (half, b.sub(whole, half)):  # in two factors, so that neither overflows
            biased = b.add(part, ir.Constant(kind, [I32(127)] * LANES))
            y = b.fmul(y, b.bitcast(b.shl(biased, ir.Constant(kind, [I32(23)] * LANES)), self.vector))
        return y

    def tanh(self, x: ir.Value) -> ir.Value:
        """Near 0 a polynomial, since 1 - 2 / (e^2x + 1) cancels there."""
        b, c = self.b, self.constant
        if self.number is _DOUBLE:
            return self.call("tanh", x)
        size = self.call("fabs", x)
        e = self.exp(b.fmul(c(2.0), size))
        far = self.call("copysign", b.fsub(c(1.0), b.fdiv(c(2.0), b.fadd(e, c(1.0)))), x)
        s = b.fmul(x, x)
        y = c(-5.70498872745e-3)
        for term in (2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1):
            y = self.fma(y, s, c(term))
        near = self.fma(b.fmul(y, s), x, x)
        return b.select(self.compare("<", size, c(0.625)), near, far)

    def sigmoid(self, x: ir.Value) -> ir.Value:
        return self.b.fdiv(self.constant(1.0), self.b.fadd(self.constant(1.0), self.exp(self.b.fneg(x))))

    def erf(self, x: ir.Value) -> ir.Value:
        """The system's, number by number: LLVM has none for vectors."""
        name = "erf" if self.number is _DOUBLE else "erff"
        result = ir.Constant(self.vector, ir.Undefined)
        for lane in map(I32, range(LANES)):
            one = self._declared(name, self.number, [self.number], [self.b.extract_element(x, lane)])
            result = self.b.insert_element(result, one, lane)
        return result

    def steps(self, t: ir.Value) -> ir.Value:
        return self.splat(self.b.trunc(t, I32))

    def word(self, value: ir.Value) -> ir.Value:
        """The 32-bit word that travels in the place of a number."""
        kind = ir.VectorType(I32, LANES)
        return self.b.fptoui(value, kind) if self.number is _DOUBLE else self.b.bitcast(value, kind)

    def philox(self, stream: int, *key: ir.Value) -> list[ir.Value]:
        """Two words of core.random.philox, as numbers below 2^24; the key is compile.symbol.RANDOM and the step."""
        element, low, high, first, t = key
        b, kind, wide = self.b, ir.VectorType(I32, LANES), ir.VectorType(I64, LANES)

        def same(value: int, kind: ir.Type = kind) -> ir.Constant:
            return ir.Constant(kind, [kind.element(value)] * LANES)

        c = [self.word(element), same(stream), b.add(self.word(first), t), same(0)]
        k = [self.word(low), self.word(high)]
        for _ in range(10):
            p0, p1 = (b.mul(b.zext(c[i], wide), same(m, wide)) for i, m in ((0, 0xD2511F53), (2, 0xCD9E8D57)))
            h0, h1 = (b.trunc(b.lshr(p, same(32, wide)), kind) for p in (p0, p1))
            c = [b.xor(b.xor(h1, c[1]), k[0]), b.trunc(p1, kind), b.xor(b.xor(h0, c[3]), k[1]), b.trunc(p0, kind)]
            k = [b.add(k[0], same(0x9E3779B9)), b.add(k[1], same(0xBB67AE85))]
        return [b.uitofp(b.lshr(word, same(8)), self.vector) for word in c[:2]]

    def uniform(self, stream: int, *key: ir.Value) -> ir.Value:
        return self.b.fmul(self.philox(stream, *key)[0], self.constant(2.0**-24))

    def normal(self, stream: int, *key: ir.Value) -> ir.Value:
        b, c = self.b, self.constant
        first, second = self.philox(stream, *key)
        far = self.call("sqrt", b.fmul(c(-2.0), self.call("log", b.fmul(b.fadd(first, c(1.0)), c(2.0**-24)))))
        return b.fmul(far, self.call("cos", b.fmul(second, c(2 * math.pi * 2.0**-24))))

    def spike(self, u: ir.Value) -> ir.Value:
        return self.b.select(self.compare(">=", u, self.constant(0.0)), self.constant(1.0), self.constant(0.0))

    def sign(self, x: ir.Value) -> ir.Value:
        c, b = self.constant, self.b
        return b.select(self.compare(">", x, c(0.0)), c(1.0), b.select(self.compare("<", x, c(0.0)), c(-1.0), c(0.0)))

    def larger(self, x: ir.Value, y: ir.Value, sign: str) -> ir.Value:
        chosen = self.b.select(self.compare(sign, x, y), x, y)
        return self.b.select(self.b.fcmp_unordered("uno", x, x), x, chosen)  # NaN wins, as in torch


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda m, b, v, x, y: b.fadd(x, y, flags=_CONTRACT),
    "sub": lambda m, b, v, x, y: b.fsub(x, y, flags=_CONTRACT),
    "mul": lambda m, b, v, x, y: b.fmul(x, y, flags=_CONTRACT),
    "div": lambda m, b, v, x, y: b.fdiv(x, y),
    "neg": lambda m, b, v, x: b.fneg(x),
    "lt": lambda m, b, v, x, y: m.compare("<", x, y),
    "le": lambda m, b, v, x, y: m.compare("<=", x, y),
    "gt": lambda m, b, v, x, y: m.compare(">", x, y),
    "ge": lambda m, b, v, x, y: m.compare(">=", x, y),
    "eq": lambda m, b, v, x, y: m.compare("==", x, y),
    "ne": lambda m, b, v, x, y: m.compare("!=", x, y),
    "and": lambda m, b, v, x, y: b.and_(x, y),
    "or": lambda m, b, v, x, y: b.or_(x, y),
    "not": lambda m, b, v, x: b.not_(x),
    "where": lambda m, b, v, c, x, y: b.select(c, x, y),
    "maximum": lambda m, b, v, x, y: m.larger(x, y, ">"),
    "minimum": lambda m, b, v, x, y: m.larger(x, y, "<"),
    "exp": lambda m, b, v, x: m.exp(x),
    "log": lambda m, b, v, x: m.call("log", x),
    "tanh": lambda m, b, v, x: m.tanh(x),
    "sigmoid": lambda m, b, v, x: m.sigmoid(x),
    "sqrt": lambda m, b, v, x: m.call("sqrt", x),
    "sin": lambda m, b, v, x: m.call("sin", x),
    "cos": lambda m, b, v, x: m.call("cos", x),
    "atan": lambda m, b, v, x: m.call("atan", x),
    "erf": lambda m, b, v, x: m.erf(x),
    "abs": lambda m, b, v, x: m.call("fabs", x),
    "sign": lambda m, b, v, x: m.sign(x),
    "floor": lambda m, b, v, x: m.call("floor", x),
    "round": lambda m, b, v, x: m.call("rint", x),
    "spike": lambda m, b, v, x: m.spike(x),
    "detach": lambda m, b, v, x: x,
    "uniform": lambda m, b, v, *key: m.uniform(v, *key),
    "normal": lambda m, b, v, *key: m.normal(v, *key),
}
