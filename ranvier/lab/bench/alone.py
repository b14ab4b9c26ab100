"""One measurement in a process of its own: `python -m ranvier.lab.bench.alone TASK`, with the task as JSON."""

import ctypes
import gc
import json
import sys
from time import perf_counter
from typing import Any

import torch

from ranvier.lab.bench.contender import Work, contenders
from ranvier.lab.bench.memory import peak
from ranvier.lab.bench.neuron import DTYPES, driven
from ranvier.lab.bench.peers import Spelling


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
    shape = task["shape"] if one.mode == "torch.compile" else [task["shape"][0], 1, *[1] * len(task["shape"][2:])]
    _work(task, shape).both(spelling)
    gc.collect()
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
