"""GPU kernels: a program printed as Triton text, the states in registers for the whole time loop.

One kernel instance works on a block of neurons, SEGMENT steps at a time, unrolled: a segment's loads all start before its
arithmetic, and no number of steps needs a kernel of its own. Backward goes through the segments from the last to the first and
computes each one's states again from its checkpoint, into registers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from ranvier.compile.kernel import Variant, arguments, is_size
from ranvier.compile.program import Program
from ranvier.compile.symbol import Symbol, topological
from ranvier.core.random import ROUNDS

_HEAD = """import triton
import triton.language as tl


@triton.jit
def word(value):
    if value.dtype.primitive_bitwidth == 64:
        bits = value.to(tl.uint32)
    else:
        bits = value.to(tl.uint32, bitcast=True)
    return bits


@triton.jit
def words(element, low, high, first, t, stream: tl.constexpr):
    c0, c1, c2, c3 = word(element), word(element) * 0 + stream, word(first) + t, word(element) * 0
    k0, k1 = word(low), word(high)
    for _ in tl.static_range({rounds}):
        h0, h1 = tl.umulhi(c0, 0xD2511F53), tl.umulhi(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, c2 * 0xCD9E8D57, h0 ^ c3 ^ k1, c0 * 0xD2511F53
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return (c0 >> 8).to(tl.float32), (c1 >> 8).to(tl.float32)


@triton.jit
def uniform(element, low, high, first, t, stream: tl.constexpr):
    a, b = words(element, low, high, first, t, stream)
    return a * 5.9604644775390625e-08


@triton.jit
def normal(element, low, high, first, t, stream: tl.constexpr):
    a, b = words(element, low, high, first, t, stream)
    return tl.sqrt(-2.0 * tl.log((a + 1.0) * 5.9604644775390625e-08)) * tl.cos(b * 3.7450704e-07)


@triton.jit
def tanh(x):
    size = tl.abs(x)
    limit = 0.03 if x.dtype.primitive_bitwidth == 64 else 0.3
    s = x * x
    terms = -3.3333333333333333e-1 + s * (1.3333333333333333e-1 + s * (-5.3968253968253968e-2 + s * 2.1869488536155203e-2))
    e = tl.exp(-2.0 * size)
    far = tl.where(x > 0, 1.0, -1.0) * ((1.0 - e) / (1.0 + e))
    return tl.where(size < limit, x + x * s * terms, far)


@triton.jit
def atan(x):
    size = tl.abs(x)
    far, middle = size > 2.414213562373095, size > 0.66
    y = tl.where(far, -1.0 / size, tl.where(middle, (size - 1.0) / (size + 1.0), size))
    s = y * y
    p = (((-8.750608600031904e-1 * s - 16.15753718733365) * s - 75.00855792314705) * s - 122.8866684490136) * s
    q = ((((s + 24.85846490142306) * s + 165.0270098316989) * s + 432.8810604912903) * s + 485.3903996359137) * s
    y += y * s * ((p - 64.85021904942025) / (q + 194.5506571482614))
    y += far.to(x.dtype) * 1.5707963267948966 + (middle & ~far).to(x.dtype) * 0.7853981633974483
    return tl.where(x < 0, -y, y)


@triton.jit
def half_even(x):
    # numbers from `large` on are whole; adding it to smaller ones leaves no room for a fraction
    large = 4503599627370496.0 if x.dtype.primitive_bitwidth == 64 else 8388608.0
    size = tl.abs(x)
    whole = tl.where(size < large, (size + large) - large, size)
    return tl.where(x < 0, -whole, whole)


@triton.jit
def kernel({arguments}, WHOLE: tl.constexpr, BLOCK: tl.constexpr):
"""

# one line per operation; {0}, {1}, {2} are its arguments
OPERATIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "not": "~{0}",
    "where": "tl.where({0}, {1}, {2})",
    "maximum": "tl.maximum({0}, {1}, tl.PropagateNan.ALL)",
    "minimum": "tl.minimum({0}, {1}, tl.PropagateNan.ALL)",
    "exp": "tl.exp({0})",
    "log": "tl.log({0})",
    "sigmoid": "1.0 / (1.0 + tl.exp(-{0}))",
    "tanh": "tanh({0})",
    "sqrt": "tl.sqrt({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "atan": "atan({0})",
    "abs": "tl.abs({0})",
    "erf": "tl.erf({0})",
    "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, 0.0))",
    "floor": "tl.floor({0})",
    "round": "half_even({0})",
    "spike": "tl.where({0} >= 0, 1.0, 0.0)",
    "detach": "{0}",
    "uniform": "uniform({0}, {1}, {2}, {3}, {4}, {value})",
    "normal": "normal({0}, {1}, {2}, {3}, {4}, {value})",
}


STAGES = 2
"""Segments in flight: the next one's loads go to shared memory while the present one is computed."""

_LATER = "(tl.full([BLOCK], begin, tl.int32) > 0)"
"""Whether a segment is not the first."""


def source(program: Program, variant: Variant, backward: bool) -> str:
    """The kernel as Python text for Triton."""
    return _Text(program, variant, backward).text


def name(argument: str) -> str:
    """An argument's name as a Python identifier."""
    return argument.replace(":", "_")


class _Text:
    def __init__(self, program: Program, variant: Variant, backward: bool) -> None:
        self.program, self.variant = program, variant
        self.number = "tl.float64" if variant.number == "float64" else "tl.float32"
        self.steps = variant.steps
        self.lines: list[str] = []
        self.indent = 1
        self.temporary = 0
        self.whole = False
        names = arguments(program, variant, backward)
        self.say("i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)")
        self.say("m = i < M")
        for size in names:
            if is_size(size) and size != "T":  # rows times neurons can pass 2^31
                self.say(f"wide_{name(size)} = {name(size)} + tl.full([], 0, tl.int64)")
        self.fixed = self._fixed()
        self._backward() if backward else self._forward()
        self.text = (
            _HEAD.format(rounds=ROUNDS, arguments=", ".join(name(a) for a in names)) + "\n".join(self.lines) + "\n"
        )

    def say(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def _forward(self) -> None:
        self.start_states()
        self.say(f"for begin in {self.segments('0', 'T - T % STEPS')}:")
        self.inside(self._forward_segment, whole=True)
        self.say("if not WHOLE:")
        self.inside(self._begin_last, self._forward_segment)
        for k in self.program.states:
            self.store(f"final:{k}", "0", f"s_{k}")

    def _backward(self) -> None:
        p, v = self.program, self.variant
        for k in p.states:
            self.say(f"gs_{k} = {self.loaded(f'gs:{k}', '0') if v.final else self.filled(0.0)}")
        for j in p.grad_fixed:
            self.say(f"gh_{j} = {self.filled(0.0)}")
        self.say("if not WHOLE:")
        self.inside(self._begin_last, self._backward_segment)
        self.say(f"for back in {self.segments('STEPS', 'T - T % STEPS + 1')}:")
        self.inside(self._begin_before, self._backward_segment, whole=True)
        if v.grad_initial:
            for k in p.states:
                self.store(f"ginitial:{k}", "0", f"gs_{k}")
        if p.learnt:
            values = self.evaluate(p.grad_parameters, {f"gh:{j}": f"gh_{j}" for j in p.grad_fixed})
            for k, value in zip(p.learnt, values, strict=True):
                self.store(f"gp:{k}", "0", value)

    def segments(self, low: str, high: str) -> str:
        return f"tl.range({low}, {high}, STEPS, num_stages={STAGES})".replace("STEPS", str(self.steps))

    def inside(self, *pieces: Callable[[], None], whole: bool = False) -> None:
        """Write pieces one level deeper, the last of them a segment; `whole` says that all its steps are real."""
        self.whole = whole
        self.indent += 1
        for piece in pieces:
            piece()
        self.indent -= 1

    def _begin_last(self) -> None:
        self.say(f"begin = T - T % {self.steps}")

    def _begin_before(self) -> None:
        self.say(f"begin = T - T % {self.steps} - back")

    def _forward_segment(self) -> None:
        p, v = self.program, self.variant
        if v.checkpoints and p.kept:
            for k in p.states:
                self.store(f"checkpoint:{k}", f"begin // {self.steps} - 1", f"s_{k}", mask=f"m & {_LATER}")
        self.load_steps("x")
        for step in range(self.steps):
            names = {"x": f"x{step}", "t": f"begin + {step}", **{f"s:{k}": f"s_{k}" for k in p.states}}
            y, *after = self.evaluate([p.output, *p.after], names)
            self.store("y", f"begin + {step}", y, self.mask(step))
            for k, value in zip(p.states, after, strict=True):
                if k in v.record:
                    self.store(f"record:{k}", f"begin + {step}", value, self.mask(step))
            self.move([f"s_{k}" for k in p.states], after, step)

    def _backward_segment(self) -> None:
        p, v = self.program, self.variant
        self.load_steps("x")
        for given in (*(["gy"] if v.spikes else []), *(f"grecord:{k}" for k in v.record)):
            self.load_steps(given)
        if p.kept:
            self._again()
        for step in reversed(range(self.steps)):
            names = {"x": f"x{step}", "t": f"begin + {step}", "gy": f"gy{step}" if v.spikes else self.filled(0.0)}
            for k in p.states:
                if k in v.record:
                    self.say(f"gs_{k} += {name(f'grecord:{k}')}{step}")
                names[f"gs:{k}"] = f"gs_{k}"
            wanted = [*([p.grad_x] if v.grad_x else []), *p.grad_states, *p.grad_fixed.values()]
            rest = self.evaluate(wanted, names, kept={s.number: f"kept{i}_{step}" for i, s in enumerate(p.kept)})
            if v.grad_x:
                self.store("gx", f"begin + {step}", rest.pop(0), self.mask(step))
            for j, value in zip(p.grad_fixed, rest[len(p.states) :], strict=True):
                self.say(f"gh_{j} += {self.if_active(step, value, '0.0')}")
            self.move([f"gs_{k}" for k in p.states], rest[: len(p.states)], step)

    def _again(self) -> None:
        """Go through a segment forward and keep of each step what the way back needs."""
        p = self.program
        self.start_states(mask=f"m & ~{_LATER}")
        for k in p.states:
            saved = self.loaded(f"checkpoint:{k}", f"begin // {self.steps} - 1", mask=f"m & {_LATER}")
            self.say(f"s_{k} = tl.where({_LATER}, {saved}, s_{k})")
        for step in range(self.steps):
            names = {"x": f"x{step}", "t": f"begin + {step}", **{f"s:{k}": f"s_{k}" for k in p.states}}
            values = self.evaluate([*p.kept, *(p.after if step + 1 < self.steps else ())], names)
            for i in range(len(p.kept)):
                self.say(f"kept{i}_{step} = {values.pop(0)}")
            for k, value in zip(p.states, values, strict=False):
                self.say(f"new_s_{k} = {value}")
            for k in p.states[: len(values)]:
                self.say(f"s_{k} = new_s_{k}")

    # --- pieces

    def start_states(self, mask: str = "m") -> None:
        for k, rest in zip(self.program.states, self.variant.rest, strict=True):
            value = self.loaded(f"initial:{k}", "0", mask) if self.variant.initial else self.filled(rest)
            self.say(f"s_{k} = {value}")

    def load_steps(self, what: str) -> None:
        for step in range(self.steps):
            self.say(f"{name(what)}{step} = {self.loaded(what, f'begin + {step}', self.mask(step))}")

    def active(self, step: int) -> str:
        """Whether a step of the last segment is one of the sequence, for every neuron of the block."""
        return f"(tl.full([BLOCK], begin + {step}, tl.int32) < T)"

    def mask(self, step: int) -> str:
        """Which neurons have this step."""
        return "m" if self.whole else f"m & {self.active(step)}"

    def if_active(self, step: int, value: str, otherwise: str) -> str:
        return value if self.whole else f"tl.where({self.active(step)}, {value}, {otherwise})"

    def move(self, names: Sequence[str], values: Sequence[str], step: int) -> None:
        """Take new values for old ones, all at once, where the step is one of the sequence."""
        fresh = []
        for target, value in zip(names, values, strict=True):
            fresh.append(f"new_{target}")
            self.say(f"{fresh[-1]} = {self.if_active(step, value, target)}")
        for target, value in zip(names, fresh, strict=True):
            self.say(f"{target} = {value}")

    def _place(self, argument: str, row: str) -> str:
        stride = f"wide_stride_{argument}" if argument in ("x", "gy") else "wide_M"
        return f"{name(argument)} + i" if row == "0" else f"{name(argument)} + ({row}) * {stride} + i"

    def loaded(self, argument: str, row: str, mask: str = "m") -> str:
        return f"tl.load({self._place(argument, row)}, mask={mask}, other=0.0).to({self.number})"

    def store(self, argument: str, row: str, value: str, mask: str = "m") -> None:
        self.say(
            f"tl.store({self._place(argument, row)}, ({value}).to({name(argument)}.dtype.element_ty), mask={mask})"
        )

    def filled(self, value: float) -> str:
        return f"tl.full([BLOCK], {_literal(value)}, {self.number})"

    def _fixed(self) -> dict[int, str]:
        """Parameters, and what follows from them, for this block's neurons."""
        env: dict[int, str] = {}
        for symbol in topological([*self.program.fixed, *self.program.grad_parameters]):
            if symbol.op == "input" and symbol.value.startswith("p:"):
                k = symbol.value.removeprefix("p:")
                where = (
                    f" + (i // wide_inner_{k}) % wide_count_{k}, mask=m, other=1.0" if k in self.variant.columns else ""
                )
                self.say(f"value_{k} = tl.load(p_{k}{where}).to({self.number})")
                env[symbol.number] = f"value_{k}"
        for index, (symbol, value) in enumerate(
            zip(self.program.fixed, self.evaluate(self.program.fixed, {}, env), strict=True)
        ):
            self.say(f"fixed_{index} = {value}")
            env[symbol.number] = f"fixed_{index}"
        return env

    def evaluate(
        self,
        outputs: Sequence[Symbol],
        names: Mapping[str, str],
        env: Mapping[int, str] | None = None,
        kept: Mapping[int, str] = MappingProxyType({}),
    ) -> list[str]:
        """Write the assignments that compute the outputs; returns what to call each.

        In a step (no `env`) they are blocks, one number for each neuron, also where all neurons share it.
        """
        done = {**(self.fixed if env is None else env), **kept}

        def value(symbol: Symbol) -> str:
            if symbol.number not in done:
                if symbol.op == "constant":
                    done[symbol.number] = _literal(symbol.value)
                elif symbol.op == "input":
                    done[symbol.number] = names[symbol.value]
                else:
                    # a number takes the type of what it meets in arithmetic, but is float32 alone or in tl.where
                    alone = "tl.where" in OPERATIONS[symbol.op] or all(a.op == "constant" for a in symbol.args)
                    args = [self.filled(a.value) if alone and a.op == "constant" else value(a) for a in symbol.args]
                    self.temporary += 1
                    done[symbol.number] = f"t{self.temporary}"
                    self.say(
                        f"t{self.temporary} = "
                        + OPERATIONS[symbol.op].format(*(f"({a})" for a in args), value=symbol.value)
                    )
            return done[symbol.number]

        if env is not None:
            return [value(symbol) for symbol in outputs]
        return [f"({value(symbol)} + {self.filled(0.0)})" if symbol.fixed else value(symbol) for symbol in outputs]


def _literal(value: float) -> str:
    return repr(value) if math.isfinite(value) else f'float("{value}")'
