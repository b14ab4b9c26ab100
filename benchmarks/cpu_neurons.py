"""All neurons on one CPU thread: forward and backward beside LIF, interleaved in one process.

    python benchmarks/cpu_neurons.py OUT.json

A neuron's bound is 1.5 times LIF's time for each of its states, and beside that the time of the functions that its kernels compute:
exponentials and their like in forward, in backward's way through the states again, and in the gradients, each taken to cost what
torch.exp takes on a tensor that lies in the cache.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from ranvier.compile.symbol import topological
from ranvier.core.discovery import discover
from ranvier.lab.machine import commit, hardware, versions

SHAPE, ROUNDS = (16, 16, 16384), 9
DRIVE = {"izhikevich": 20.0}
SLOW = {"exp", "log", "tanh", "sigmoid", "sin", "cos", "atan", "erf", "sqrt", "uniform", "normal"}


def functions(layer: torch.nn.Module) -> int:
    """How many functions a step's kernels compute: forward, again in backward, and in the gradients."""
    program = layer._program(())

    def count(outputs: list) -> int:
        return sum(s.op in SLOW and not s.fixed for s in topological(outputs))

    kept = {s.number for s in program.kept_in_cache}
    late = [s for s in _beyond([program.grad_x, *program.grad_states], kept) if s.op in SLOW]
    return count([program.output, *program.after]) + count([*program.kept_in_cache, *program.after]) + len(late)


def _beyond(outputs: list, kept: set[int]) -> list:
    """What the outputs depend on when the kept values are given."""
    found: dict[int, object] = {}

    def see(symbol: object) -> None:
        if symbol.number not in found and symbol.number not in kept and not symbol.fixed:
            found[symbol.number] = symbol
            for a in symbol.args:
                see(a)

    for symbol in outputs:
        see(symbol)
    return list(found.values())


def main(path: str) -> None:
    torch.set_num_threads(1)
    small = torch.randn(1 << 14)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        torch.exp(small)
        times.append(time.perf_counter() - start)
    exponential = statistics.median(times) / small.numel()
    layers = {k: found.load()() for k, found in discover("ranvier.nn.neurons", base="neuron").items()}
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(SHAPE, generator=generator) * 1.5 + 0.6
    inputs = {k: (x * DRIVE.get(k, 1.0)).requires_grad_() for k in layers}
    gy = torch.randn(SHAPE, generator=generator)

    def both(name: str) -> float:
        inputs[name].grad = None
        start = time.perf_counter()
        layers[name](inputs[name]).backward(gy)
        return time.perf_counter() - start

    for name in layers:
        both(name), both(name)
    ratios: dict[str, list[float]] = {k: [] for k in layers}
    lif = []
    for _ in range(ROUNDS):
        for name in layers:
            base = both("lif")
            lif.append(base)
            ratios[name].append(both(name) / base)
    base = statistics.median(lif)
    rows = []
    for name, layer in layers.items():
        states, calls = max(len(layer.states), 1), functions(layer)
        ratio = statistics.median(ratios[name])
        allowed = 1.5 * states + calls * exponential * x.numel() / base
        rows.append({"neuron": name, "states": states, "functions": calls, "x LIF": ratio, "bound": allowed})
        print(f"{name:24} {states} states {calls:2} functions  {ratio:5.2f} x LIF  bound {allowed:5.2f}", flush=True)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "shape": SHAPE, "lif ms": base * 1e3}
    Path(path).write_text(json.dumps({**facts, "neurons": rows}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
