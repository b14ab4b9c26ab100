"""One measurement in a process of its own, which is `python -m ranvier.lab.bench.alone TASK`, with the task as JSON."""

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
from time import perf_counter
from typing import Any

import torch

from ranvier.lab.bench.contender import COMPILED, contenders
from ranvier.lab.bench.memory import peak
from ranvier.lab.bench.peers import Spelling
from ranvier.lab.bench.workload import DTYPES, Work, driven


def alone(task: dict[str, Any], facts: dict[str, Any], cache: str | None = None) -> dict[str, float]:
    """What a process of its own finds; nothing when it fails. `cache` is where it keeps its kernels."""
    task = (
        task
        | {k: facts[k] for k in ("neuron", "shape", "dtype", "device", "gain")}
        | {"threads": torch.get_num_threads()}
    )
    environment = dict(os.environ)
    if task["what"] == "peak":  # a block that is freed goes back at once, so that resident memory is what is in use
        environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    if cache:
        environment |= {"RANVIER_CACHE": cache, "TRITON_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-m", "ranvier.lab.bench.alone", json.dumps(task)],
        capture_output=True,
        text=True,
        env=environment,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    return result


def main() -> None:
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    device = torch.device(task["device"])
    entrants, _ = contenders(task["neuron"], task["shape"][0], device, task["peers"])
    one = next(one for one in entrants if one.name == task["contender"])
    work, spelling = _work(task, task["shape"]), one.build()
    if task["what"] == "first":
        print(json.dumps({"seconds": _first(work, spelling)}))
        return
    work.input(spelling)
    # code and threads are there before the measured pass, its buffers are not; compiled code has a shape of its own
    shape = task["shape"] if one.mode == COMPILED else [task["shape"][0], 1, *[1] * len(task["shape"][2:])]
    warm = _work(task, shape)
    for _ in range(3):  # some peers are compiled anew once they hold a state
        warm.both(spelling)
    del warm
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # what compiling has left free would serve the measured pass
        ctypes.CDLL(None).malloc_trim(0)
    print(json.dumps({"bytes": peak(lambda: work.both(spelling), device)}))


def _work(task: dict[str, Any], shape: list[int]) -> Work:
    return driven(shape, DTYPES[task["dtype"]], torch.device(task["device"]), task["gain"])


def _first(work: Work, spelling: Spelling) -> float:
    start = perf_counter()
    work.both(spelling)
    if work.x.is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - start


if __name__ == "__main__":
    main()
