"""What a program's numbers are like: how large they get on given data, and where they are whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.symbol import BOOLEAN, topological
from ranvier.core.checks import Refusal
from ranvier.deploy.engine.lowered import Stepping
from ranvier.deploy.engine.program import Live, Program
from ranvier.deploy.operations import Operation, operations

KEPT = 64
"""Steps whose whole neurons are looked into."""


@dataclass
class Calibration:
    """The largest size of each array by its number, of what each neuron's step computes, and of the input."""

    largest: dict[int, float]
    inside: list[float] = field(default_factory=list)
    """By neuron operation: the largest size of anything in its step."""
    whole: bool = True
    """Whether every number that came in was whole."""


def calibrated(program: Program, x: Tensor) -> Calibration:
    """Run sequences x [T, B, ...] and look at all numbers.

    Raises: Refusal for no data, and for NaN or infinite ones.
    """
    if not x.numel() or not x.isfinite().all():
        got = "NaN or infinite values" if x.numel() else "none"
        raise Refusal("calibration", expected="finite data", got=got, do="Give training data [T, B, ...].")
    with torch.no_grad():
        x = x if program.head is None else program.head(x)
    frames = x.float().reshape(*x.shape[:2], -1).numpy()
    lowered = program.lowered
    ops = operations(lowered)
    numbers = [n for n in lowered.changing if getattr(lowered.arrays[n], "dtype", None) == np.float32]
    found = Calibration(dict.fromkeys(numbers, 0.0), whole=bool((frames == np.rint(frames)).all()))
    neurons = [op for op in ops if op.kind == "neuron"]
    seen: list[list[list[np.ndarray]]] = [[] for _ in neurons]
    every = max(1, frames.shape[0] * frames.shape[1] // KEPT)
    for b in range(frames.shape[1]):
        live = Live(program)
        for t in range(len(frames)):
            look = (b * len(frames) + t) % every == 0
            before = [_states(live, op) for op in neurons] if look else []
            live.step(np.ascontiguousarray(frames[t, b]))
            for n in numbers:
                found.largest[n] = max(found.largest[n], float(np.abs(live.arrays[n]).max(initial=0.0)))
            for kept, op, states in zip(seen, neurons, before, strict=False):
                kept.append([live.arrays[op["x"]].copy(), *states])
    for op, kept in zip(neurons, seen, strict=True):
        fixed = [live.arrays[a.number] for a in op.step.fixed]
        found.inside.append(_largest(op.step, [np.stack(part) for part in zip(*kept, strict=True)], fixed))
    return found


def _states(live: Live, op: Operation) -> list[np.ndarray]:
    return [live.arrays[s.number].copy() for s in op.step.states]


_RUN: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "round": np.rint,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "where": np.where,
    "detach": np.asarray,
    "spike": lambda u: np.greater_equal(u, 0).astype(np.float64),
}


def _largest(neuron: Stepping, given: Sequence[np.ndarray], fixed: Sequence[np.ndarray]) -> float:
    """The largest size of what a step computes from x and its states; factors, which have a scale of their own, left out."""
    step = neuron.step
    names = dict(zip(("x", *(f"s:{s}" for s in step.states)), given, strict=True))
    values = {s.number: f.astype(np.float64) for s, f in zip(step.fixed, fixed, strict=True)}
    known = set(values)
    size = 1.0
    for symbol in topological([step.output, *step.after]):
        if symbol.number in known or (symbol.fixed and symbol.op != "constant"):
            continue
        if symbol.op == "constant":
            values[symbol.number] = np.array([float(symbol.value)])
        elif symbol.op == "input":
            values[symbol.number] = names[symbol.value].astype(np.float64)
        elif symbol.op in _RUN:
            values[symbol.number] = _RUN[symbol.op](*(values[a.number] for a in symbol.args))
        else:
            return size  # refused where it is planned, by name
        counted = [symbol, *symbol.args] if symbol.op not in ("mul", "constant") else [symbol]
        if symbol.op not in BOOLEAN and symbol.op != "constant":
            size = max([size, *(float(np.abs(values[s.number]).max(initial=0.0)) for s in counted)])
    return size
