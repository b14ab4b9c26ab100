"""LIF, forward and backward, beside the same loop in C++, in one process and in turn.

    OMP_NUM_THREADS=2 python benchmarks/cpp_loop.py LIMITS OUT.json

LIMITS is a folder with `build.py`, whose `load()` gives a library with `lif_fwd_save` and `lif_bwd_saved`: a loop over blocks that
saves the membrane, compiled with -O3 -march=native -ffast-math and OpenMP, writing into memory that is used again and again.
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.lab.machine import commit, hardware, versions

SHAPES, ROUNDS, SEED = [(100, 64, 1024), (16, 32, 65536)], 21, 1


def compared(library: ctypes.CDLL, shape: tuple[int, ...]) -> dict[str, object]:
    generator = torch.Generator().manual_seed(SEED)
    x, gy = torch.randn(shape, generator=generator) * 1.5 + 0.6, torch.randn(shape, generator=generator)
    leaf, layer = x.clone().requires_grad_(), ranvier.LIF(tau=2.0, detach_reset=True)
    spikes, membrane, gx = (torch.zeros_like(x) for _ in range(3))
    sizes = ctypes.c_int64(shape[0]), ctypes.c_int64(x[0].numel())
    constants = ctypes.c_float(0.5), ctypes.c_float(0.5), ctypes.c_float(1.0), 1

    def at(tensor: torch.Tensor) -> ctypes.c_void_p:
        return ctypes.c_void_p(tensor.data_ptr())

    def loop() -> None:
        library.lif_fwd_save(at(x), at(spikes), at(membrane), *sizes, *constants)
        library.lif_bwd_saved(at(gy), at(membrane), at(gx), *sizes, *constants)

    def ours() -> None:
        leaf.grad = None
        layer(leaf).backward(gy)

    cases, times = {"loop": loop, "ours": ours}, {"loop": [], "ours": []}
    for case in (*cases.values(), *cases.values()):
        case()
    for turn in range(ROUNDS):
        for name in list(cases)[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            cases[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {
        "shape": shape,
        "ours ms": median(times["ours"]),
        "loop ms": median(times["loop"]),
        "ratio": median(a / b for a, b in zip(times["ours"], times["loop"], strict=True)),
        "spikes that differ": int((layer(x) != spikes).sum()),
    }


def main(limits: str, path: str) -> None:
    sys.path.insert(0, limits)
    library = __import__("build").load()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rows = [compared(library, shape) for shape in SHAPES for _ in range(3)]
    for row in rows:
        print(row, flush=True)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "threads": torch.get_num_threads()}
    facts |= {"seed": SEED, "rounds": ROUNDS, "load before": os.getloadavg()[0]}
    Path(path).write_text(json.dumps({**facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
