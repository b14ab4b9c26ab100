"""docs/neurons.md from the neurons themselves: `python -m ranvier.lab.neuron_page docs` writes it and its drawings."""

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import torch

from ranvier.compile.latex import latex
from ranvier.compile.program import Program
from ranvier.compile.symbol import topological
from ranvier.core.checks import Refusal
from ranvier.core.discovery import Found, discover
from ranvier.core.files import write_text
from ranvier.lab.response import draw
from ranvier.nn.neurons.neuron import Neuron

RENEW = "python -m ranvier.lab.neuron_page docs"

KINDS = {
    "additions": ("add", "sub", "neg"),
    "multiplications": ("mul",),
    "divisions": ("div",),
    "comparisons": ("lt", "le", "gt", "ge", "eq", "ne", "spike"),
    "choices": ("where", "maximum", "minimum", "abs", "sign", "floor", "round", "and", "or", "not"),
    "random numbers": ("uniform", "normal"),
}
FUNCTIONS = ("exp", "log", "tanh", "sigmoid", "sqrt", "sin", "cos", "atan", "erf")


def page() -> str:
    """The page as Markdown."""
    found = discover("ranvier.nn.neurons", base="neuron")
    sections = [_section(thing) for thing in found.values()]
    rows = [f"| [{thing.attribute}](#{thing.attribute.lower()}) | {thing.summary} |" for thing in found.values()]
    return "\n".join([_HEAD, "| neuron | what it is |", "| --- | --- |", *rows, "", *sections])


def write(folder: Path) -> None:
    """Write the page and one drawing a neuron."""
    (folder / "neurons").mkdir(parents=True, exist_ok=True)
    for thing in discover("ranvier.nn.neurons", base="neuron").values():
        write_text(folder / "neurons" / f"{thing.name}.svg", draw(thing.load()()))
    write_text(folder / "neurons.md", page())


_HEAD = f"""# Neurons

Made from the classes by `{RENEW}`; change those, not this page.

Each formula is what the printers of kernels get: the neuron's own `step`, traced with default options (reset to zero, Euler).
$\\Theta$ is 1 from 0 on, else 0. Operations are those of one neuron in one step, after what depends on parameters alone has
been worked out before the loop. "Fused" means that its forward and backward kernels were built: run on a CPU through
LLVM, and compiled for an NVIDIA H100 through Triton. In the drawings a current is on from step 20 to step 100.
"""


def _section(thing: Found) -> str:
    neuron: Neuron = thing.load()()
    program = neuron._program(())
    formulas = " \\\\\n".join(line.replace(" = ", " &= ", 1) for line in latex(program))
    text = inspect.getdoc(type(neuron)) or ""
    return "\n".join(
        [
            f"## {thing.attribute}\n",
            f"{thing.summary}\n",
            f"```math\n\\begin{{aligned}}\n{formulas}\n\\end{{aligned}}\n```\n",
            f"![{thing.attribute}: input, states and output](neurons/{thing.name}.svg)\n",
            *_table(neuron),
            f"States: {_states(neuron)}.\n",
            f"A step: {operations(program)}. Fused: {fused(neuron)}.\n",
            f"Source: {_paragraph(text, 'Source')}\n",
        ]
    )


def operations(program: Program) -> str:
    """Operations of one neuron and step by kind.

    >>> import ranvier
    >>> operations(ranvier.LIF()._program(()))
    '4 additions, 2 multiplications, 1 comparison'
    """
    used = Counter(s.op for s in topological([program.output, *program.after]) if not s.fixed)  # the rest is hoisted
    counts = {kind: sum(used[op] for op in ops) for kind, ops in KINDS.items()}
    words = [f"{n} {kind if n > 1 else kind.removesuffix('s')}" for kind, n in counts.items() if n]
    return ", ".join([*words, *(f"{used[name]} {name}" for name in FUNCTIONS if used[name])]) or "none"


def fused(neuron: Neuron) -> str:
    """The backends whose kernels are built for it here and now, or why one is not."""
    return ", ".join(_built(name, build, neuron) for name, build in (("CPU", _on_cpu), ("GPU", _for_gpu)))


def _built(name: str, build: Callable[[Neuron], None], neuron: Neuron) -> str:
    try:
        build(neuron)
    except Refusal as refusal:
        return f"not on the {name} ({refusal})"
    return name


def _on_cpu(neuron: Neuron) -> None:
    x = torch.zeros(2, 1, 3, requires_grad=True)
    neuron(x).sum().backward()


def _for_gpu(neuron: Neuron) -> None:
    from triton import CompilationError, compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ranvier.compile.build import build_triton
    from ranvier.compile.kernel import Variant, arguments, is_size
    from ranvier.compile.triton import name, source

    program = neuron._program(tuple(neuron.declared))
    # kernels are unrolled; with segments of one step the equation is in it once
    common: dict[str, Any] = {
        "io": "float32",
        "steps": 1,
        "columns": frozenset(),
        "rest": tuple(s.rest for s in neuron.states.values()),
    }
    for backward in (False, True):
        variant = Variant(**common, checkpoints=not backward)
        types = {name(a): "i32" if is_size(a) else "*fp32" for a in arguments(program, variant, backward)}
        fixed = {"WHOLE": True, "BLOCK": 256}
        text = build_triton(source(program, variant, backward))
        kernel = ASTSource(text, {**types, **dict.fromkeys(fixed, "constexpr")}, fixed)
        try:
            compile(kernel, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4, "enable_fp_fusion": True})
        except CompilationError as error:
            raise Refusal(
                type(neuron).__name__, expected="a Triton kernel", got=str(error), do="See the text."
            ) from None


def _table(neuron: Neuron) -> list[str]:
    if not neuron.declared:
        return []
    learnt = dict(neuron.named_parameters())
    rows = [
        f"| `{name}`{' (learnt)' if name in learnt else ''} | {p.default:.4g} | {'' if p.unit == '1' else p.unit} | {_bounds(p.low, p.high)} | {p.doc} |"
        for name, p in neuron.declared.items()
    ]
    return ["| parameter | default | unit | bounds | |", "| --- | --- | --- | --- | --- |", *rows, ""]


def _bounds(low: float, high: float) -> str:
    if (low, high) == (-inf, inf):
        return ""
    return f"at least {low:g}" if high == inf else f"at most {high:g}" if low == -inf else f"{low:g} to {high:g}"


def _states(neuron: Neuron) -> str:
    return "; ".join(
        f"`{name}`{', ' + s.doc if s.doc else ''}, {s.rest:g}{'' if s.unit == '1' else ' ' + s.unit} at rest"
        for name, s in neuron.states.items()
    )


def _paragraph(text: str, name: str) -> str:
    """What follows `name:` in a docstring, to the end of its paragraph."""
    found = re.search(rf"^{name}: (.*?)(?=\n\n|\Z|\n[A-Z]\w+: )", text, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else "none given."


if __name__ == "__main__":
    write(Path(sys.argv[1]))
