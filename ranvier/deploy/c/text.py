"""A program as the text of one C99 file: arrays, functions, and a test that it carries with it."""

import re
from dataclasses import dataclass
from textwrap import fill

import numpy as np
from torch import nn

from ranvier.core.checks import Refusal
from ranvier.deploy.c.kinds import Printed, smallest
from ranvier.deploy.c.mathematics import FUNCTIONS
from ranvier.deploy.c.steps import Steps, floating
from ranvier.nn.coding.latency import FirstSpikeDecoder
from ranvier.nn.coding.membrane import LastDecoder, MaxDecoder
from ranvier.nn.coding.rate import RateDecoder
from ranvier.nn.synapses.scale import Scale


@dataclass
class Vector:
    """Sequences [B, T, N] and what comes of them: outputs [B, T', M], decisions [B], and a digest of all memory [B, T]."""

    x: np.ndarray
    y: np.ndarray
    decisions: np.ndarray | None
    digests: np.ndarray | None


@dataclass(frozen=True)
class Readout:
    """How a decoder is written: what starts it, what a step does, the score; and a factor behind it."""

    start: str
    step: str
    score: str
    factor: float


_DECODERS = {
    RateDecoder: ("0", "total[j] += y[j]", "total[j] / (counted ? counted : 1)"),
    LastDecoder: ("0", "total[j] = y[j]", "total[j]"),
    MaxDecoder: ("LOWEST", "if (total[j] < y[j]) total[j] = y[j]", "total[j]"),
    FirstSpikeDecoder: ("0", "if (total[j] == counted) total[j] += y[j] == 0", "total[j]"),
}


def readout(tail: nn.Module | None) -> Readout | None:
    """What of the decoder is written.

    Raises: Refusal, by name, for what it has no text for.
    """
    if tail is None:
        return None
    first, *rest = [m for m in tail.children() if not isinstance(m, nn.Identity | nn.Dropout | nn.Flatten)]
    found = next((found for kind, found in _DECODERS.items() if type(first) is kind), None)
    factor = 1.0
    for module in rest:
        if isinstance(module, Scale) and module.scale.numel() == 1:
            factor *= float(module.scale)
            continue
        raise Refusal(
            type(module).__name__,
            expected="Scale with one number alone behind the decoder",
            got=str(module),
            do="Leave it out: compile the model without it.",
        )
    if found is None:
        known = ", ".join(kind.__name__ for kind in _DECODERS)
        do = "Leave it out: compile the model without it."
        raise Refusal(type(first).__name__, expected=f"one of {known}", got=str(first), do=do)
    return Readout(*found, factor)


def text(printed: Printed, name: str, libm: bool, test: Vector | None) -> str:
    """The file.

    Raises: Refusal where without libm a function is needed that is not written here.
    """
    steps = Steps(printed, "" if libm else f"{name}_")
    last = printed.ops[-1]
    inputs, outputs = printed.ops[0]["size"], last["size"]
    decoder = readout(printed.program.tail)
    number, upper = printed.number, name.upper()
    taken = f"const {printed.taken} x[{inputs}], {number} y[{outputs}]"
    score = "float" if printed.whole is None else "int64_t"
    digested = list(printed.whole.memory.values()) if printed.whole is not None else []
    for at in digested:
        steps(at)
    parts = [
        _head(printed, name, inputs, outputs, decoder, test is not None),
        "#include <stdint.h>\n#include <string.h>",
    ]
    if libm and steps.functions:
        parts[-1] += "\n#include <math.h>"
    public = [f"void {name}_reset(void);", f"int {name}_step({taken});"]
    if decoder:
        public += [f"void {name}_scores({score} scores[{outputs}]);", f"int {name}_decide(void);"]
    parts += ["\n".join(public), f"#ifndef {upper}_OWN\n#define {upper}_OWN static\n#endif"]
    if printed.whole is not None:
        parts.append(_INTEGERS)
    if not libm:
        parts += _written_functions(steps.functions, name)
    parts.append(_arrays(steps, upper))
    if decoder:
        kind = "float" if printed.whole is None else "int64_t"
        parts.append(f"static {kind} total[{outputs}];\nstatic int32_t counted;")
    parts.append(_reset(steps, name, outputs, decoder))
    body = steps.text
    if decoder:
        body = [*body, f"for (int32_t j = 0; j < {outputs}; j++) {{ {decoder.step}; }}", "counted++;"]
    parts.append(_function(f"int {name}_step({taken})", [*body, "return 1;"]))
    if decoder:
        parts += _decision(decoder, name, outputs, score)
    if test is not None:
        parts.append(f"#ifdef {upper}_TEST\n\n{_test(printed, name, test, digested)}\n\n#endif")
    return "\n\n".join(parts) + "\n"


def _head(printed: Printed, name: str, inputs: int, outputs: int, decoder: Readout | None, tested: bool) -> str:
    whole = printed.whole
    lines = [f"{name}: a spiking network of {inputs} inputs and {outputs} outputs, written by ranvier."]
    lines.append(f"Call {name}_reset() before a sequence, and {name}_step(x, y) for each of its steps.")
    every = printed.program.every
    lines.append(
        f"It returns 1 where y was written, which is every {every} steps, else 0." if every > 1 else "It returns 1."
    )
    if decoder:
        best = f"{name}_decide() is the number of the best output so far, {name}_scores(scores) are those of all."
        lines.append(best)
    if whole is not None:
        lines.append(
            f"Whole numbers: x stands for x / 2^{whole.input.bits}, clipped to {whole.input.low} ... {whole.input.high};"
            f" y for y / 2^{whole.output.bits}."
        )
        if decoder:
            unit = "steps" if "counted" in decoder.step else "units of y"
            lines.append(f"Scores are in {unit}; the network's are {decoder.factor:g} times as large.")
    if tested:
        lines.append(f"With {name.upper()}_TEST defined the file has a main that tests it.")
    return "/* " + "\n   ".join(fill(line, 110) for line in lines) + " */"


_INTEGERS = """/* Right shifts of negative numbers have to keep the sign: */
typedef char right_shifts_keep_the_sign[(-1 >> 1) == -1 ? 1 : -1];

static inline int32_t clip32(int32_t v, int32_t low, int32_t high) { return v < low ? low : v > high ? high : v; }

static inline int32_t clip64(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

/* v * 2^by, halves rounded up */
static inline int64_t moved(int64_t v, int by)
{
    return by >= 0 ? v * (INT64_C(1) << by) : (v + (INT64_C(1) << (-by - 1))) >> -by;
}"""


def _written_functions(needed: set[str], name: str) -> list[str]:
    found: dict[str, str] = {}

    def add(function: str) -> None:
        if function not in FUNCTIONS:
            raise Refusal(
                "libm=False",
                expected=f"steps of {', '.join(sorted(FUNCTIONS))}",
                got=function,
                do="Export with libm=True, or use a neuron without it.",
            )
        for other in FUNCTIONS[function].uses:
            add(other)
        found[function] = re.sub(r"\bM_", f"{name}_", FUNCTIONS[function].text)

    for function in sorted(needed):
        add(function)
    return list(found.values())


def _arrays(steps: Steps, upper: str) -> str:
    lines = [_constant(smallest(data), n, data) for n, data in steps.tables.items()]
    for number in steps.used:
        data, name, kind = steps.p.arrays[number], steps.p.name(number), steps.p.type(number)
        role = steps.p.roles.get(number, "sum")
        if role in ("mark", "head", "phase"):
            fixed = number not in _counted(steps)
            start = f" = {int(data.flat[0])}" if fixed else ""
            lines.append(f"{'static const' if fixed else f'{upper}_OWN'} int32_t {name}{start};")
        elif role == "index" and number in _counted(steps):
            lines.append(f"{upper}_OWN {kind} {name}[{_sizes(steps)[number]}];")
        elif number in steps.p.changing or role == "sum":
            lines.append(f"{upper}_OWN {kind} {name}[{data.size}];")
        elif role == "index":
            lines.append(_constant(kind, name, data[:1]))
        else:
            lines.append(_constant(kind, name, data))
    return "\n".join(lines)


def _counted(steps: Steps) -> set[int]:
    """The lists, counts and positions that an operation writes."""
    found = set()
    for op in steps.p.ops:
        mine = ("index", "mark") if op.kind in ("frame", "list") else ("out_index", "out_mark", "head", "phase")
        found |= {op[n] for n in mine if n in op.words}
    return found


def _sizes(steps: Steps) -> dict[int, int]:
    sizes = {}
    for op in steps.p.ops:
        for index, values in (("index", "value"), ("out_index", "out")):
            if index in op.words:
                sizes[op[index]] = steps.p.arrays[op[values]].size
    return sizes


def _constant(kind: str, name: str, data: np.ndarray) -> str:
    flat = data.reshape(-1)
    values = [floating(v) for v in flat] if kind == "float" else [str(int(v)) for v in flat]
    return f"static const {kind} {name}[{max(len(values), 1)}] = {{\n{_rows(values or ['0'])}\n}};"


def _rows(values: list[str], width: int = 110) -> str:
    lines, line = [], ""
    for value in values:
        if len(line) + len(value) + 2 > width:
            lines.append(line)
            line = ""
        line += f"{value}, "
    return "\n".join(f"    {one.rstrip()}" for one in [*lines, line.rstrip(", ")])


def _function(head: str, lines: list[str]) -> str:
    return "\n".join([head, "{", *(f"    {line}" for line in lines), "}"])


def _reset(steps: Steps, name: str, outputs: int, decoder: Readout | None) -> str:
    lines, counted = [], _counted(steps)
    for number in steps.used:
        data, own, role = steps.p.arrays[number], steps.p.name(number), steps.p.roles.get(number, "sum")
        if role in ("mark", "head", "phase"):
            if number in counted:
                lines.append(f"{own} = 0;")
        elif role == "index" or (number not in steps.p.changing and role != "sum"):
            continue
        elif not data.any():
            lines.append(f"memset({own}, 0, sizeof {own});")
        else:
            start = floating(data.flat[0]) if steps.p.type(number) == "float" else str(int(data.flat[0]))
            lines += [f"for (int32_t i = 0; i < {data.size}; i++) {own}[i] = {start};"]
    if decoder:
        start = decoder.start
        if start == "LOWEST":
            start = "-3.402823466e+38f" if steps.p.whole is None else "INT64_MIN"
        lines += [f"for (int32_t j = 0; j < {outputs}; j++) total[j] = {start};", "counted = 0;"]
    return _function(f"void {name}_reset(void)", lines)


def _decision(decoder: Readout, name: str, outputs: int, score: str) -> list[str]:
    whole = score == "int64_t"
    times = "" if whole or decoder.factor == 1 else f" * {floating(decoder.factor)}"
    lines = [f"for (int32_t j = 0; j < {outputs}; j++) scores[j] = {decoder.score}{times};"]
    # a mean of whole numbers loses its fraction: their sums are compared
    value = "total[j]" if whole else "scores[j]"
    sign = "-" if whole and decoder.factor < 0 else ""
    choose = [
        "int best = 0;",
        *([] if whole else [f"{score} scores[{outputs}];", f"{name}_scores(scores);"]),
        f"for (int32_t j = 1; j < {outputs}; j++)",
        f"    if ({sign}{value} > {sign}{value.replace('[j]', '[best]')}) best = (int)j;",
        "return best;",
    ]
    return [
        _function(f"void {name}_scores({score} scores[{outputs}])", lines),
        _function(f"int {name}_decide(void)", choose),
    ]


def _test(printed: Printed, name: str, test: Vector, digested: list[int]) -> str:
    number, taken = printed.number, printed.taken
    sequences, steps, inputs = test.x.shape
    rows, outputs = test.y.shape[1:]
    parts = ["#include <stdio.h>", _constant(taken, "test_x", test.x), _constant(number, "test_y", test.y)]
    if test.decisions is not None:
        parts.append(_constant("int32_t", "test_decisions", test.decisions))
    check = "got != want"
    if printed.whole is None:
        size = "(want < 0.0f ? -want : want)"
        check = f"!(got - want <= 1e-4f * (1.0f + {size}) && want - got <= 1e-4f * (1.0f + {size}))"
    lines = [f"static {number} y[{outputs}];", "long wrong = 0, row = 0;"]
    clock = f"{name.upper()}_CLOCK"
    loop = [f"const {taken} *x = test_x + (b * {steps} + t) * {inputs};"]
    loop += [f"#ifdef {clock}", f"const uint32_t start = {clock}();", "#endif", f"const int done = {name}_step(x, y);"]
    loop += [f"#ifdef {clock}", f"const uint32_t took = {clock}() - start;", "if (took > most) most = took;"]
    loop += ["all += took;", "#endif"]
    loop += [f"for (int32_t j = 0; done && j < {outputs}; j++) {{"]
    loop += [f"    const {number} got = y[j], want = test_y[row * {outputs} + j];", f"    wrong += {check};", "}"]
    loop += ["row += done;"]
    if test.digests is not None:
        parts.append(_constant("uint32_t", "test_digests", test.digests))
        parts.append(_digest(printed, digested))
        loop += ["before = digest(before);", f"wrong += before != test_digests[b * {steps} + t];"]
        lines.append("uint32_t before = 0;")
    lines += [f"#ifdef {clock}", "uint32_t most = 0;", "uint64_t all = 0;", "#endif"]
    body = [f"{name}_reset();", *(["before = 0;"] if test.digests is not None else [])]
    body += [f"for (int32_t t = 0; t < {steps}; t++) {{", *(f"    {line}" for line in loop), "}"]
    if test.decisions is not None:
        body.append(f"wrong += {name}_decide() != test_decisions[b];")
    lines += [f"for (int32_t b = 0; b < {sequences}; b++) {{", *(f"    {line}" for line in body), "}"]
    total = sequences * steps
    lines += [f"#ifdef {clock}"]
    lines += [f'printf("instructions per step: %lu mean, %lu most\\n", (unsigned long)(all / {total}),']
    lines += ["       (unsigned long)most);", "#endif"]
    lines += [f'printf("{name}: {sequences * rows * outputs} outputs of {total} steps, %ld differ\\n", wrong);']
    return "\n\n".join([*parts, _function("int main(void)", [*lines, "return wrong != 0;"])]).replace("    #", "#")


def _digest(printed: Printed, digested: list[int]) -> str:
    lines = ["uint32_t sum;", "before *= 31u;"]
    for at in digested:
        size, name = printed.arrays[at].size, printed.name(at)
        scalar = printed.roles.get(at, "sum") in ("head", "phase")
        value = name if scalar else f"{name}[i]"
        lines.append("sum = 0;")
        lines.append(f"for (uint32_t i = 0; i < {size}u; i++) sum += (uint32_t){value} * (2u * i + 1u);")
        lines.append("before = before * 31u + sum;")
    return _function("static uint32_t digest(uint32_t before)", [*lines, "return before;"])
