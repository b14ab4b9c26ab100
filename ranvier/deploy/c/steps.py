"""Each of the engine's operations as C."""

import re
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from ranvier.compile.c import CALL, literal, statements
from ranvier.compile.fixed_point import c_integer, c_statements
from ranvier.compile.symbol import topological
from ranvier.deploy.c.kinds import Printed
from ranvier.deploy.operations import NONE, Operation


class Steps:
    """The text of a program's operations; on the way, which arrays and functions of math.h they use."""

    def __init__(self, printed: Printed, prefix: str = "") -> None:
        self.p, self.prefix = printed, prefix
        self.used: dict[int, None] = {}
        self.tables: dict[str, np.ndarray] = {}
        self.functions: set[str] = set()
        self.numbers = count()
        self.text = [line for op in printed.ops for line in self.block(op)]

    def block(self, op: Operation) -> list[str]:
        method: Callable[[Operation], list[str]] = getattr(self, f"_{op.kind}")
        lines = method(op)
        return [f"{{   /* {op.kind} */", *(f"    {line}" for line in lines), "}"] if lines else []

    def __call__(self, number: int) -> str:
        """An array's name, which is used then."""
        self.used[number] = None
        return self.p.name(number)

    def table(self, data: np.ndarray) -> str:
        """A constant array that the program does not have."""
        name = f"table_{next(self.numbers)}"
        self.tables[name] = data
        return name

    def entry(self, data: np.ndarray, at: str) -> str:
        """An entry of constant numbers; the number itself where all are one."""
        if (data == data.flat[0]).all():
            return str(int(data.flat[0]))
        return f"{self.table(data)}[{at}]"

    def place(self, number: int, at: str) -> str:
        """An entry of an order: its index where the order is that of the program."""
        order = self.p.arrays[number]
        return at if (order == np.arange(order.size)).all() else f"{self(number)}[{at}]"

    def value(self, op: Operation, at: str = "i") -> str:
        """A declaration of v, what comes in; nothing where only spikes do."""
        if op["value"] in self.p.spikes:
            return ""
        return f"const {self.p.number} v = {self(op['value'])}[{at}];"

    def listing(
        self, op: Operation, condition: str, at: str, prefix: str = "out_"
    ) -> tuple[list[str], list[str], list[str]]:
        """Lines before, in and after a loop that list who is active; none where nobody reads the list."""
        index, mark = op[f"{prefix}index"], op[f"{prefix}mark"]
        if index not in self.p.listed:
            return [], [], []
        kind = self.p.type(index)
        add = f"if ({condition}) {self(index)}[n++] = ({kind}){at};"
        return ["int32_t n = 0;"], [add], [f"{self(mark)} = n;"]

    def loop(self, size: int | str, body: list[str], name: str = "i") -> list[str]:
        if len(body) == 1:
            return [f"for (int32_t {name} = 0; {name} < {size}; {name}++)", f"    {body[0]}"]
        return [f"for (int32_t {name} = 0; {name} < {size}; {name}++) {{", *(f"    {line}" for line in body), "}"]

    def active(self, op: Operation, body: list[str]) -> list[str]:
        """The body for each active input i with its value v."""
        value = self.value(op)
        head = [f"const int32_t i = {self(op['index'])}[k];", *([value] if value else [])]
        return self.loop(self(op["mark"]), [*head, *body], "k")

    def stored(self, number: int, text: str, of: int | None = None) -> str:
        """What is put into an array of spikes or of numbers."""
        kind = self.p.type(number)
        return text if kind == self.p.number or (of is not None and self.p.type(of) == kind) else f"({kind})({text})"

    def _frame(self, op: Operation) -> list[str]:
        place = self.place(op["order"], "j")
        before, within, after = self.listing(op, "v != 0", "i", "")
        v = "x[j]"
        if self.p.whole is not None:
            kind = self.p.format(op["value"])
            v = f"clip32(x[j], {kind.low}, {kind.high})"
        body = [f"const int32_t i = {place};", f"const {self.p.number} v = {v};"]
        body += [f"{self(op['value'])}[i] = {self.stored(op['value'], 'v')};", *within]
        return [*before, *self.loop(op["size"], body, "j"), *after]

    def _list(self, op: Operation) -> list[str]:
        before, within, after = self.listing(op, f"{self(op['value'])}[i] != 0", "i", "")
        return [*before, *self.loop(op["size"], within), *after]

    def _zero(self, op: Operation) -> list[str]:
        return self.loop(op["size"], [f"{self(op['out'])}[j] = 0;"], "j")

    def _fill(self, op: Operation) -> list[str]:
        bias = self.bias(op, "")
        return self.loop(op["size"], [f"{self(op['out'])}[j] = {bias or '0'};"], "j")

    def bias(self, op: Operation, before: str) -> str:
        number = op["bias"]
        if number == NONE or (number not in self.p.changing and not self.p.arrays[number].any()):
            return ""
        return f"{before}{self(number)}[j]"

    def _dense(self, op: Operation) -> list[str]:
        lines = []
        if op["bias"] != NONE:
            lines += self.loop(op["size"], [f"{self(op['out'])}[j] = {self.bias(op, '') or '0'};"], "j")
        times = "v * " if self.value(op) else ""
        row = f"const {self.p.type(op['weights'])} *w = {self(op['weights'])} + i * {op['size']};"
        add = self.loop(op["size"], [f"{self(op['out'])}[j] += {times}w[j];"], "j")
        return [*lines, *self.active(op, [row, *add])]

    def targets(self, op: Operation) -> list[str]:
        channels = op["channels"]
        return (
            [f"const int32_t place = i / {channels}, channel = i % {channels};"]
            if channels > 1
            else ["const int32_t place = i, channel = 0;"]
        )

    def runs(self, op: Operation, body: list[str]) -> list[str]:
        starts = self(op["starts"])
        head = f"for (int32_t r = {starts}[place]; r < {starts}[place + 1]; r++) {{"
        return [head, *(f"    {line}" for line in body), "}"]

    def _scatter(self, op: Operation) -> list[str]:
        runs = self(op["runs"])
        times = "v * " if self.value(op) else ""
        body = [
            f"const int32_t w = {runs}[3 * r + 1] + channel * {op['weight_step']};",
            f"int32_t o = {runs}[3 * r] + channel * {op['out_step']};",
        ]
        if op["ring"]:
            body += [f"o += {self(op['head'])};", f"if (o >= {op['ring']}) o -= {op['ring']};"]
        add = [f"{self(op['out'])}[o + j] += {times}{self(op['weights'])}[w + j];"]
        body += self.loop(f"{runs}[3 * r + 2]", add, "j")
        return self.active(op, [*self.targets(op), *self.runs(op, body)])

    def cleared(self, op: Operation) -> list[str]:
        self.p.listed.add(op["out_index"])
        clear = f"{self(op['out'])}[{self(op['out_index'])}[k]] = 0;"
        return self.loop(self(op["out_mark"]), [clear], "k")

    def _maximum(self, op: Operation) -> list[str]:
        clear, out = self.cleared(op), self(op["out"])
        before, within, after = self.listing(op, f"{out}[o] == 0", "o")
        value = "v" if self.value(op) else "1"
        keep = f"{out}[o] = {self.stored(op['out'], value, op['value'])};"
        if self.value(op):
            keep = f"if ({out}[o] < v) {keep}"
        runs = self.runs(op, [f"const int32_t o = {self(op['runs'])}[3 * r] + channel;", *within, keep])
        return [*clear, *before, *self.active(op, [*self.targets(op), *runs]), *after]

    def _join(self, op: Operation) -> list[str]:
        assert self.p.whole is not None
        join, kind, out = self.p.whole.joins[op["out"]], self.p.format(op["out"]), op["out"]
        bits = 32 if join.fits else 64
        terms = []
        if join.bias.any():
            terms.append(f"{'' if join.fits else '(int64_t)'}{self.entry(join.bias, 'j')}")
        for number, by in join.parts:
            part, shift = f"{self(number)}[j]", self.entry(by, "j")
            if (by == 0).all():
                terms.append(part if join.fits else f"(int64_t){part}")
            else:
                terms.append(f"{part} * (INT32_C(1) << {shift})" if join.fits else f"moved({part}, {shift})")
        total = " + ".join(terms or ["0"])
        put = self.stored(out, f"clip{bits}({total}, {c_integer(kind.low)}, {c_integer(kind.high)})")
        return self.loop(op["size"], [f"{self(out)}[j] = {put};"], "j")

    def _neuron(self, op: Operation) -> list[str]:
        neuron, out = op.step, op["out"]
        places = {"x": op["x"], **{f"s:{s}": a.number for s, a in zip(neuron.step.states, neuron.states, strict=True)}}
        local = {name: name.replace("s:", "old_") for name in places}
        lines, result, after = (self.in_floats if self.p.whole is None else self.in_integers)(op, local)
        used = "\n".join([*lines, result, *after])
        body = [
            f"const {self.p.number} {local[name]} = {self(place)}[i];"
            for name, place in places.items()
            if re.search(rf"\b{local[name]}\b", used)
        ]
        body += lines
        body += [
            f"{self(a.number)}[i] = {text};"
            for a, text in zip(neuron.states, after, strict=True)
            if text != local[f"s:{neuron.step.states[neuron.states.index(a)]}"]
        ]
        body.append(f"{self(out)}[i] = {self.stored(out, result)};")
        before, within, end = self.listing(op, f"{self(out)}[i] != 0", "i")
        return [*before, *self.loop(op["size"], [*body, *within]), *end]

    def in_floats(self, op: Operation, local: dict[str, str]) -> tuple[list[str], str, list[str]]:
        step = op.step.step
        outputs = [step.output, *step.after]
        given = {s.number: local[s.value] for s in topological(outputs) if s.op == "input" and s.value in local}
        for symbol, at in zip(step.fixed, op.step.fixed, strict=True):
            value = self.p.arrays[at.number]
            given[symbol.number] = floating(value[0]) if value.size == 1 else f"{self.p.name(at.number)}[i]"
        lines, (result, *after) = statements(outputs, given)
        for at in op.step.fixed:
            if any(self.p.name(at.number) + "[" in line for line in [*lines, result, *after]):
                self(at.number)
        self.functions |= {name for line in lines for name in CALL.findall(line)}
        return [CALL.sub(rf"{self.prefix}\1(", line) for line in lines], result, after

    def in_integers(self, op: Operation, local: dict[str, str]) -> tuple[list[str], str, list[str]]:
        assert self.p.whole is not None
        plan, kind = self.p.whole.plans[op["out"]], self.p.format(op["out"])

        lines, names = c_statements(plan, local, lambda values: f"{self.table(values)}[i]")
        made, result = plan.instructions[plan.output], names[plan.output]
        if (made.bits, made.low, made.high) != (kind.bits, kind.low, kind.high) and op["out"] not in self.p.spikes:
            by = kind.bits - made.bits
            result = f"clip64(moved({result}, {by}), {c_integer(kind.low)}, {c_integer(kind.high)})"
        after = [names[a] for a in plan.after]
        return _needed(lines, [result, *after]), result, after

    def _echo(self, op: Operation) -> list[str]:
        size, slots, past, head, out = op["size"], op["slots"], self(op["past"]), self(op["head"]), self(op["out"])
        lines = self.loop(size, [f"{past}[{head} * {size} + i] = {self(op['value'])}[i];"])
        before, within, after = self.listing(op, f"{out}[at + i] != 0", "(at + i)")
        body = [
            f"const int32_t row = ({head} + {slots} - {self(op['delays'])}[d]) % {slots} * {size}, at = d * {size};",
            *self.loop(size, [f"{out}[at + i] = {past}[row + i];", *within]),
        ]
        return [*lines, *before, *self.loop(op["count"], body, "d"), *after, f"{head} = ({head} + 1) % {slots};"]

    def _arrive(self, op: Operation) -> list[str]:
        ring, head, out, size = self(op["ring"]), self(op["head"]), self(op["out"]), op["size"]
        body = [f"{out}[j] = {ring}[{head} + j]{self.bias(op, ' + ')};", f"{ring}[{head} + j] = 0;"]
        return [*self.loop(size, body, "j"), f"{head} = {head} + {size} < {op['words']} ? {head} + {size} : 0;"]

    def _time_pool(self, op: Operation) -> list[str]:
        total, phase, out, size = self(op["sum"]), self(op["phase"]), self(op["out"]), op["size"]
        lines = self.active(op, [f"{total}[i] += {'v' if self.value(op) else '1'};"])
        lines += [f"if (++{phase} < {op['steps']}) return 0;", f"{phase} = 0;"]
        mean = f"{total}[i] * {floating(np.float32(1) / np.float32(op['steps']))}"
        if self.p.whole is not None:
            (by, share), kind = self.p.whole.factors[op["out"]], self.p.format(op["out"])
            mean = f"clip64(moved((int64_t){total}[i] * {share}, {-by}), {kind.low}, {kind.high})"
        before, within, after = self.listing(op, f"{out}[i] != 0", "i")
        body = [f"{out}[i] = {self.stored(op['out'], mean)};", f"{total}[i] = 0;", *within]
        return [*lines, *before, *self.loop(size, body), *after]

    def _relabel(self, op: Operation) -> list[str]:
        clear, out = self.cleared(op), op["out"]
        value = self.value(op)
        moved = "v" if value else "1"
        if (self.p.arrays[op["factors"]] != 1).any() or (self.p.whole and self.p.whole.factors[out][0]):
            factors = self.p.arrays[op["factors"]]
            moved += f" * {self(op['factors'])}[i]" if factors.size else ""
        if self.p.whole is not None and self.p.whole.factors[out] != (0, 1):
            kind = self.p.format(out)
            moved = f"clip64(moved({moved}, {-self.p.whole.factors[out][0]}), {kind.low}, {kind.high})"
        kind_of = self.p.type(op["out_index"])
        body = [
            f"const int32_t o = {self.place(op['places'], 'i')};",
            f"{self(out)}[o] = {self.stored(out, moved)};",
            f"{self(op['out_index'])}[k] = ({kind_of})o;",
        ]
        return [*clear, *self.active(op, body), f"{self(op['out_mark'])} = {self(op['mark'])};"]

    def _out(self, op: Operation) -> list[str]:
        return self.loop(op["size"], [f"y[j] = {self(op['value'])}[{self.place(op['order'], 'j')}];"], "j")


def floating(value: Any) -> str:
    """A float32 in the fewest digits that mean it."""
    return f"{np.float32(value)}f" if np.isfinite(value) else literal(float(value))


def _needed(lines: list[str], results: list[str]) -> list[str]:
    """The lines that the results depend on."""
    name = re.compile(r"\bt\d+\b")
    wanted = {n for r in results for n in name.findall(r)}
    kept = []
    for line in reversed(lines):
        made, _, text = line.partition(" = ")
        if made.split()[-1] in wanted:
            kept.append(line)
            wanted |= set(name.findall(text))
    return kept[::-1]
