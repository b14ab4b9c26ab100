"""The density above which a dense product is faster than sums over active indices: measured once, kept on disk."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ranvier.compile import build

WORTH = 1 << 26
"""Products in a layer's call below which a wrong choice costs too little to measure for."""
_SAMPLE = 1 << 28
"""Products that are measured on."""
DENSITIES = (0.02, 0.3)
LARGEST = 1024
"""Of a class: wider layers cross over where this one does."""
_TURNS = 8
_AGREE = 1.25
"""How far measurements of one thing may lie apart. Otherwise the machine is too busy to tell."""
DENSE = -1.0
"""What the dense product is called among densities."""

Case = Callable[[], Tensor]


class Crossover(NamedTuple):
    """Densities at which sums over active indices take as long as a dense product."""

    forward: float
    weight: float
    """for the gradient of the weights"""


DEFAULT = Crossover(0.35, 0.35)
"""Where nothing is measured. On CPUs with vectors of 512 bits 0.4 to 0.5 was found for layers of 128 to 1024, 0.2 for few outputs."""


def crossovers(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> Crossover:
    """That of this machine, number of threads and class of sizes (by powers of two); measured when first needed.

    Small layers take the default, and so does everything where torch is to use deterministic algorithms: two runs may
    measure differently, and sums in another order round differently.
    """
    if rows * inputs * outputs < WORTH or torch.are_deterministic_algorithms_enabled():
        return DEFAULT
    return _known(
        torch.get_num_threads(),
        inputs,
        outputs,
        str(dtype).removeprefix("torch."),
        os.environ.get("RANVIER_CACHE"),
    )


@cache
def _known(threads: int, inputs: int, outputs: int, dtype: str, place: str | None) -> Crossover:
    key = f"linear {size_class(inputs)} to {size_class(outputs)}, {dtype}, {threads} threads"
    sizes = min(inputs, LARGEST), min(outputs, LARGEST)  # the first of a class stands for it
    return remembered(key, lambda: measured(*sizes, getattr(torch, dtype))) or DEFAULT


def size_class(number: int) -> int:
    """The power of two that is nearest, up to that of the widest class."""
    return min(1 << round(1.4 * number).bit_length() - 1, LARGEST)


def remembered(key: str, measure: Callable[[], Crossover | None]) -> Crossover | None:
    """What was measured once under this key on this machine; None where that could not tell."""
    path = _table()
    kept = _read(path).get(key)
    if kept is not None:
        return Crossover(*kept)
    found = measure()
    if found is not None and path:
        build.write(path, json.dumps({**_read(path), key: found}, indent=1).encode())
    return found


def _table() -> Path | None:
    import llvmlite.binding as llvm

    machine = f"{llvm.get_host_cpu_name()} {os.cpu_count()} torch {torch.__version__}"
    folder = build.folder()
    return folder and folder / f"spike-crossover-{hashlib.sha256(machine.encode()).hexdigest()[:12]}.json"


def _read(path: Path | None) -> dict[str, list[float]]:
    try:
        found = json.loads(path.read_bytes()) if path else {}
        return {k: [float(a), float(b)] for k, (a, b) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # not there, or not what was written


def measured(inputs: int, outputs: int, dtype: torch.dtype) -> Crossover | None:
    """The crossover of a layer, from times of both ways at two densities: about a quarter of a second.

    None where the times are too unsteady to tell; another process may find the machine quieter.
    """
    from ranvier.ops.spike_linear import cpu
    from ranvier.ops.spike_pack import indices, pack, unpack

    generator = torch.Generator().manual_seed(0)
    rows = min(max(_SAMPLE // (inputs * outputs), 256), 4096)
    weight = torch.randn(outputs, inputs, dtype=dtype, generator=generator)
    grad = torch.randn(rows, outputs, dtype=dtype, generator=generator)
    inputs_of = {d: (torch.rand(rows, inputs, generator=generator) < d).to(dtype) for d in DENSITIES}
    packed = {d: pack(x, inputs)[0] for d, x in inputs_of.items()}
    x, bits = inputs_of[DENSITIES[0]], packed[DENSITIES[0]]
    with torch.autocast("cpu", enabled=False):
        forward: dict[float, Case] = {DENSE: lambda: x @ weight.t()}
        backward: dict[float, Case] = {DENSE: lambda: grad.t() @ unpack(bits, dtype).view(rows, inputs)}
        for d, p in packed.items():
            forward[d] = lambda p=p: cpu.forward(*indices(p), None, weight, None)  # type: ignore[misc]
            backward[d] = lambda p=p: cpu.weight_gradient(*indices(p), None, grad, inputs)  # type: ignore[misc]
        return both(forward, backward)


def both(forward: Mapping[float, Case], backward: Mapping[float, Case]) -> Crossover | None:
    """The crossover of forward and of the gradient of the weights, from cases by density and the dense one."""
    found = [agreed(timed(cases)) for cases in (forward, backward)]
    return None if found[0] is None or found[1] is None else Crossover(found[0], found[1])


def agreed(times: Mapping[float, Sequence[float]]) -> float | None:
    """The crossover by the shortest times, where those of every second turn alone say nearly the same."""
    halves = []
    for turns in (slice(None), slice(0, None, 2), slice(1, None, 2)):
        best = {d: min(t[turns]) for d, t in times.items()}
        halves.append(crossing(best.pop(DENSE), best))
    return halves[0] if max(halves) <= _AGREE * min(halves) and halves[0] < 1 else None


def crossing(dense: float, sparse: Mapping[float, float]) -> float:
    """Where a line through times at densities reaches the dense time.

    >>> crossing(10.0, {0.0: 1.0, 0.1: 4.0})
    0.3
    """
    (low, first), (high, second) = sorted(sparse.items())
    slope = max((second - first) / (high - low), 1e-12)
    return round(min(max(low + (dense - first) / slope, 0.0), 1.0), 4)


def timed(cases: Mapping[float, Case]) -> dict[float, list[float]]:
    """Times of each, taken in turn, so that what else the machine does hits all alike."""
    times: dict[float, list[float]] = {name: [] for name in cases}
    # a thread's own time does not run while another program has its core
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for turn in range(_TURNS + 1):
        for name, case in cases.items():
            start = clock()
            case()
            if turn:
                times[name].append(clock() - start)
    return times
