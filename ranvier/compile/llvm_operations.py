"""The operations of LLVM kernels, on vectors of LANES numbers: one line each, and the polynomials behind some."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from ranvier.compile.symbol import Symbol
from ranvier.core.random import ROUNDS

LANES = 16
"""Numbers in a vector."""

I64, I32, I16, PTR = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.PointerType()
_FLOAT, _DOUBLE, _HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
STORED = {"float32": _FLOAT, "float64": _DOUBLE, "float16": _HALF, "bfloat16": I16}
_CONTRACT = ("contract",)


def bytes_of(stored: ir.Type) -> int:
    return {_FLOAT: 4, _DOUBLE: 8, _HALF: 2, I16: 2}[stored]


def splat(b: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    kind = ir.VectorType(value.type, lanes)
    one = b.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
    return b.shuffle_vector(
        one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), [I32(0)] * lanes)
    )


@contextmanager
def loop(b: ir.IRBuilder, start: ir.Value, stop: ir.Value, step: int = 1) -> Iterator[ir.Value]:
    """The body for start, start + step ... below stop."""
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


class Math:
    """One line per operation."""

    def __init__(self, module: ir.Module, b: ir.IRBuilder, number: ir.Type) -> None:
        self.module, self.b, self.number = module, b, number
        self.vector = ir.VectorType(number, LANES)
        self.suffix = f"v{LANES}{'f64' if number is _DOUBLE else 'f32'}"

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.vector, [self.number(value)] * LANES)

    def splat(self, value: ir.Value) -> ir.Value:
        return splat(self.b, value, LANES)

    def apply(self, symbol: Symbol, args: list[ir.Value]) -> ir.Value:
        return OPERATIONS[symbol.op](self, self.b, symbol.value, *args)

    def evaluate(self, outputs: Sequence[Symbol], known: Callable[[Symbol], ir.Value | None]) -> list[ir.Value]:
        """The values of symbols, from what is `known`; each is computed once."""
        done: dict[int, ir.Value] = {}

        def value(symbol: Symbol) -> ir.Value:
            if symbol.number not in done:
                there = known(symbol)
                if there is None:
                    there = (
                        self.constant(symbol.value)
                        if symbol.op == "constant"
                        else self.apply(symbol, [value(a) for a in symbol.args])
                    )
                done[symbol.number] = there
            return done[symbol.number]

        return [value(symbol) for symbol in outputs]

    def call(self, name: str, *args: ir.Value) -> ir.Value:
        """An LLVM intrinsic on vectors."""
        return self.declared(f"llvm.{name}.{self.suffix}", self.vector, list(args))

    def masked(self, what: str, kind: ir.Type, args: list[ir.Value]) -> ir.Value:
        element = {_FLOAT: "f32", _DOUBLE: "f64", _HALF: "f16", I16: "i16"}[kind.element]
        result = kind if what == "load" else ir.VoidType()
        return self.declared(f"llvm.masked.{what}.v{LANES}{element}.p0", result, args)

    def prefetch(self, address: ir.Value) -> None:
        """Bring what lies there into the caches; an address past an array's end does no harm."""
        read, near, data = I32(0), I32(3), I32(1)
        self.declared("llvm.prefetch.p0", ir.VoidType(), [address, read, near, data], [PTR, I32, I32, I32])

    def copied(self, target: ir.Value, source: ir.Value, size: ir.Value) -> None:
        """Copy `size` bytes."""
        kinds = [PTR, PTR, I64, ir.IntType(1)]
        self.declared("llvm.memcpy.p0.p0.i64", ir.VoidType(), [target, source, size, kinds[3](0)], kinds)

    def declared(
        self, name: str, result: ir.Type, args: list[ir.Value], kinds: list[ir.Type] | None = None
    ) -> ir.Value:
        """A call of a function that LLVM or the system has."""
        kinds = [a.type for a in args] if kinds is None else kinds
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
        whole = self.declared(f"llvm.fptosi.sat.v{LANES}i32.{self.suffix}", kind, [n])
        half = b.ashr(whole, ir.Constant(kind, [I32(1)] * LANES))
        for part in (half, b.sub(whole, half)):  # in two factors, so that neither overflows
            biased = b.add(part, ir.Constant(kind, [I32(127)] * LANES))
            y = b.fmul(y, b.bitcast(b.shl(biased, ir.Constant(kind, [I32(23)] * LANES)), self.vector))
        return y

    def log(self, x: ir.Value) -> ir.Value:
        """float64: the system's; float32: the exponent times ln 2 and a polynomial of the fraction, to 1 unit in the last place."""
        b, c, kind = self.b, self.constant, ir.VectorType(I32, LANES)
        if self.number is _DOUBLE:
            return self.call("log", x)

        def same(value: int) -> ir.Constant:
            return ir.Constant(kind, [I32(value)] * LANES)

        small = self.compare("<", x, c(2.0**-126))  # too small for a normal number
        bits = b.bitcast(b.select(small, b.fmul(x, c(2.0**23)), x), kind)
        e = b.sub(b.lshr(bits, same(23)), b.select(small, same(126 + 23), same(126)))
        m = b.bitcast(b.or_(b.and_(bits, same(0x007FFFFF)), same(0x3F000000)), self.vector)  # in [1/2, 1)
        low = self.compare("<", m, c(0.70710678))
        n = b.sitofp(b.select(low, b.sub(e, same(1)), e), self.vector)
        m = b.fsub(b.select(low, b.fadd(m, m), m), c(1.0))
        s, y = b.fmul(m, m), c(7.0376836292e-2)
        for term in (-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1):
            y = self.fma(y, m, c(term))
        for term in (2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1):
            y = self.fma(y, m, c(term))
        y = self.fma(n, c(-2.12194440e-4), b.fmul(b.fmul(y, m), s))
        y = b.fadd(m, self.fma(s, c(-0.5), y))
        y = self.fma(n, c(0.693359375), y)
        y = b.select(self.compare("==", x, c(0.0)), c(-math.inf), y)
        y = b.select(self.compare("==", x, c(math.inf)), c(math.inf), y)
        return b.select(self.compare(">=", x, c(0.0)), y, c(math.nan))  # also for NaN

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
            one = self.declared(name, self.number, [self.b.extract_element(x, lane)])
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
        for _ in range(ROUNDS):
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
        far = self.call("sqrt", b.fmul(c(-2.0), self.log(b.fmul(b.fadd(first, c(1.0)), c(2.0**-24)))))
        return b.fmul(far, self.call("cos", b.fmul(second, c(2 * math.pi * 2.0**-24))))

    def spike(self, u: ir.Value) -> ir.Value:
        return self.b.select(self.compare(">=", u, self.constant(0.0)), self.constant(1.0), self.constant(0.0))

    def sign(self, x: ir.Value) -> ir.Value:
        c, b = self.constant, self.b
        return b.select(self.compare(">", x, c(0.0)), c(1.0), b.select(self.compare("<", x, c(0.0)), c(-1.0), c(0.0)))

    def larger(self, x: ir.Value, y: ir.Value, sign: str) -> ir.Value:
        chosen = self.b.select(self.compare(sign, x, y), x, y)
        return self.b.select(self.b.fcmp_unordered("uno", x, x), x, chosen)  # NaN wins, as in torch


OPERATIONS: dict[str, Callable[..., Any]] = {
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
    "log": lambda m, b, v, x: m.log(x),
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
