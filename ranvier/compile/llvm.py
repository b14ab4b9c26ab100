"""CPU kernels: a program printed as LLVM IR with explicit vectors, the states in a block that stays in the first-level cache.

A kernel is `void f(i64* args, i64 low, i64 high)` and works on the blocks low..high of `BLOCK` neighbouring neurons, time
step by time step. `args` holds addresses and sizes in the order of `arguments`. Neurons past the last whole vector are done
once more with masked loads and stores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType

from llvmlite import ir

from ranvier.compile.kernel import Variant, arguments, is_size
from ranvier.compile.llvm_operations import I32, I64, LANES, PTR, STORED, Math, bytes_of, loop, splat
from ranvier.compile.program import Program
from ranvier.compile.symbol import BOOLEAN, Symbol, inputs, topological

BLOCK = 512
"""Neurons in a block."""


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
        self.math, self.loop = Math(self.module, b, self.number), partial(loop, b)
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
            for i in range(len(program.kept_in_cache)):
                self.arrays[f"kept:{i}"] = self.block_array(self.steps)
        self.place = b.alloca(I64), b.alloca(I64), b.alloca(I64)  # where in a parameter the present neuron reads
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
            if v.checkpoints and p.kept:
                with b.if_then(b.icmp_unsigned(">", segment, I64(0))):
                    self.each_vector(lambda j, mask: self.save_states("checkpoint", b.sub(segment, I64(1)), j, mask))
            with self.loop(begin, end) as t:

                def step(j: ir.Value, mask: ir.Value | None) -> None:
                    self.fetch("x", b.add(t, I64(1)), j)
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
            if p.kept_in_cache:
                self._again(segment, begin, end)
            with self.loop(I64(0), b.sub(end, begin)) as back:
                t = b.sub(b.sub(end, I64(1)), back)

                def step(j: ir.Value, mask: ir.Value | None) -> None:
                    if v.spikes:
                        self.fetch("gy", b.sub(t, I64(1)), j)
                    given = {"x": self.load("x", t, j, mask), "t": self.math.steps(t)}
                    given["gy"] = self.load("gy", t, j, mask) if v.spikes else self.math.constant(0.0)
                    for k in p.states:
                        g = self.get(f"gs:{k}", j)
                        given[f"gs:{k}"] = b.fadd(g, self.load(f"grecord:{k}", t, j, mask)) if k in v.record else g
                    kept = {
                        s.number: self.get(f"kept:{i}", self.in_segment(t, begin, j))
                        for i, s in enumerate(p.kept_in_cache)
                    }
                    env = self.environment(j, given, kept)
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

    def _again(self, segment: ir.Value, begin: ir.Value, end: ir.Value) -> None:
        """Go through a segment forward and keep of each step what the way back needs."""
        p, b = self.program, self.b
        with b.if_else(b.icmp_unsigned("==", segment, I64(0))) as (then, otherwise):
            with then:
                self.each_vector(self.start)
            with otherwise:
                self.each_vector(lambda j, mask: self.load_states("checkpoint", b.sub(segment, I64(1)), j, mask))
        with self.loop(begin, end) as t:

            def step(j: ir.Value, mask: ir.Value | None) -> None:
                self.fetch("x", b.add(t, I64(1)), j)
                env = self.environment(j, {"x": self.load("x", t, j, mask), "t": self.math.steps(t)})
                values = self.evaluate([*p.kept_in_cache, *p.after], env)
                for i in range(len(p.kept_in_cache)):
                    self.put(f"kept:{i}", self.in_segment(t, begin, j), values.pop(0))
                for k, value in zip(p.states, values, strict=True):
                    self.put(f"s:{k}", j, value)

            self.each_vector(step)

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

    def in_segment(self, t: ir.Value, begin: ir.Value, j: ir.Value) -> ir.Value:
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
        for k in self.program.parameters:
            if k in self.variant.columns:
                self.columns(f"p:{k}")
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

    def columns(self, name: str) -> None:
        """Spread a parameter over this block's neurons: runs of `inner` share a value, and those of 1 lie as they are used."""
        b, size = self.b, self.size
        inner, count = (self.arg[name.replace("p:", f"{what}:")] for what in ("inner", "count"))
        row, within, done = self.place
        b.store(b.urem(b.udiv(self.first, inner), count), row)
        b.store(b.urem(self.first, inner), within)
        b.store(I64(0), done)
        single = b.icmp_unsigned("==", inner, I64(1))
        with self.while_less(done, size) as c:
            at = b.load(row, typ=I64)
            source = b.gep(self.arg[name], [at], source_etype=self.number)
            room = b.select(single, b.sub(count, at), b.sub(inner, b.load(within, typ=I64)))
            run = b.select(b.icmp_unsigned("<", room, b.sub(size, c)), room, b.sub(size, c))
            with b.if_else(single) as (then, otherwise):
                with then:
                    target = b.gep(self.arrays[name], [c], source_etype=self.number)
                    self.math.copied(target, source, b.mul(run, I64(bytes_of(self.number))))
                with otherwise:
                    value = self.math.splat(b.load(source, typ=self.number))
                    # whole vectors: what is written past the run's end is the next run's, or lies past the block's end
                    with self.loop(I64(0), run, LANES) as i:
                        self.put(name, b.add(c, i), value)
            b.store(I64(0), within)
            after = b.add(at, b.select(single, run, I64(1)))
            b.store(b.select(b.icmp_unsigned("==", after, count), I64(0), after), row)
            b.store(b.add(c, run), done)

    @contextmanager
    def while_less(self, place: ir.Value, stop: ir.Value) -> Iterator[ir.Value]:
        """Again and again while the number at `place`, which the body moves on, is less than `stop`."""
        b = self.b
        head, body, done = (b.append_basic_block(k) for k in ("head", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        value = b.load(place, typ=I64)
        b.cbranch(b.icmp_unsigned("<", value, stop), body, done)
        b.position_at_end(body)
        yield value
        b.branch(head)
        b.position_at_end(done)

    def environment(
        self, j: ir.Value, given: Mapping[str, ir.Value], kept: Mapping[int, ir.Value] = MappingProxyType({})
    ) -> "_Lazy":
        """The values of inputs and fixed symbols for the neurons at j, loaded when first asked for, and those kept."""
        p = self.program
        names = {f.number: f"fixed:{i}" for i, f in enumerate(p.fixed) if self.by_column(f)}
        truths = {f.number for f in p.fixed if f.op in BOOLEAN}
        places = {n: partial(self.truth if n in truths else self.get, name, j) for n, name in names.items()}
        return _Lazy({**self.scalars, **kept}, places, lambda name: given[name] if name in given else self.get(name, j))

    def evaluate(self, outputs: Sequence[Symbol], env: "Mapping[int, ir.Value] | _Lazy") -> list[ir.Value]:
        return self.math.evaluate(outputs, env.find if isinstance(env, _Lazy) else lambda s: env.get(s.number))

    # --- loops, loads and stores

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
            body(whole, b.icmp_unsigned("<", lanes, splat(b, left, LANES)))

    def block_array(self, rows: int) -> ir.Value:
        array = self.b.alloca(self.vector, rows * BLOCK // LANES + 1)
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

    def fetch(self, name: str, row: ir.Value, j: ir.Value) -> None:
        """Ask memory for a row that is needed next: each row lies in other pages, where the CPU does not look ahead."""
        self.math.prefetch(self._place(name, row, j)[0])

    def load(self, name: str, row: ir.Value, j: ir.Value, mask: ir.Value | None) -> ir.Value:
        address, stored = self._place(name, row, j)
        kind = ir.VectorType(stored, LANES)
        if mask is None:
            raw = self.b.load(address, typ=kind, align=bytes_of(stored))
        else:
            raw = self.math.masked("load", kind, [address, I32(bytes_of(stored)), mask, ir.Constant(kind, None)])
        return self.math.widened(raw)

    def store(self, name: str, row: ir.Value, j: ir.Value, mask: ir.Value | None, value: ir.Value) -> None:
        address, stored = self._place(name, row, j)
        raw = self.math.narrowed(value, stored)
        if mask is None:
            self.b.store(raw, address, align=bytes_of(stored))
        else:
            self.math.masked("store", raw.type, [raw, address, I32(bytes_of(stored)), mask])


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
