"""A batch norm and LIF neurons in one kernel, beside the two in a row and beside the neurons alone, interleaved in one process.

    OMP_NUM_THREADS=1 python benchmarks/normed_neuron.py OUT.json

"training" is forward and backward with the batch's statistics, "inference" a forward pass with running ones. Beside the norm of the
input there are, for inference, a membrane norm inside the kernel and folded into thresholds. Times count behind a check that spikes
and gradients agree; on a GPU, where there is one, the same.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.lab.machine import commit, hardware, versions
from ranvier.nn.norms.batch_norm import BatchNorm
from ranvier.nn.norms.fold_norms import fold_norms
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.normalised import Normalised

SHAPES = [(16, 32, 64, 16, 16), (4, 32, 128, 16, 16), (100, 64, 256)]
SEED, ROUNDS = 1, 25
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def layers(shape: tuple[int, ...]) -> dict[str, nn.Module]:
    channels = shape[2]
    norm = nn.BatchNorm2d if len(shape) == 5 else nn.BatchNorm1d
    membrane = Normalised(None, ranvier.LIF(), membrane=MembraneBatchNorm(channels)).eval()
    made = {
        "apart": nn.Sequential(ranvier.Fold(norm(channels)), ranvier.LIF()),
        "one kernel": Normalised(BatchNorm(channels), ranvier.LIF()),
        "neurons alone": ranvier.LIF(),
        "membrane norm": membrane,
        "membrane norm folded": fold_norms(membrane),
    }
    return {name: layer.to(DEVICE) for name, layer in made.items()}


def checked(made: dict[str, nn.Module], x: torch.Tensor, gy: torch.Tensor) -> dict[str, float]:
    """How far the kernel is from the two in a row; refuses to time what is wrong."""
    found = []
    for name in ("apart", "one kernel"):
        leaf = x.clone().requires_grad_()
        y = made[name](leaf)
        y.backward(gy)
        found.append((y.detach(), leaf.grad, *(p.grad for p in made[name].parameters())))
    differ = (found[0][0] != found[1][0]).double().mean().item()
    # a neuron that fires otherwise, because of a tie, goes another way from there
    same = (found[0][0] == found[1][0]).all(0)
    error = ((found[0][1] - found[1][1]) * same).abs().max() / found[0][1].abs().max()
    folded = (made["membrane norm"](x) != made["membrane norm folded"](x)).double().mean().item()
    assert differ < 1e-4 and error < 1e-3 and folded < 1e-4, (differ, error, folded)
    return {"spikes that differ": differ, "gradient, largest error": error.item(), "folded: spikes that differ": folded}


def timed(cases: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    for case in (*cases.values(), *cases.values()):
        case()
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(ROUNDS):
        for name in list(cases)[:: -1 if turn % 2 else 1]:
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            cases[name]()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def compared(shape: tuple[int, ...]) -> dict[str, object]:
    torch.manual_seed(SEED)
    x, gy = (torch.randn(shape).to(DEVICE) for _ in range(2))
    made = layers(shape)
    row: dict[str, object] = {"shape": shape, **checked(made, x, gy)}
    leaf = x.clone().requires_grad_()

    def training(layer: nn.Module) -> Callable[[], object]:
        def run() -> None:
            leaf.grad = None
            layer(leaf).backward(gy)

        return run

    def inference(layer: nn.Module) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                layer(x)

        return run

    trained = {k: made[k].train() for k in ("apart", "one kernel", "neurons alone")}
    for what, way in (("training", training), ("inference", inference)):
        cases = trained if what == "training" else {k: layer.eval() for k, layer in made.items()}
        times = timed({k: way(layer) for k, layer in cases.items()})
        row[f"{what} ms"] = {k: median(v) for k, v in times.items()}
        row[f"{what}: apart / one kernel"] = median(
            a / b for a, b in zip(times["apart"], times["one kernel"], strict=True)
        )
        row[f"{what}: one kernel / neurons alone"] = median(
            a / b for a, b in zip(times["one kernel"], times["neurons alone"], strict=True)
        )
        if what == "inference":
            folded = zip(times["membrane norm folded"], times["neurons alone"], strict=True)
            row["inference: membrane norm folded / neurons alone"] = median(a / b for a, b in folded)
    return row


def main(path: str) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rows = [compared(shape) for shape in SHAPES]
    for row in rows:
        print(json.dumps(row, indent=1), flush=True)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "threads": torch.get_num_threads()}
    facts |= {"seed": SEED, "rounds": ROUNDS, "load before": os.getloadavg()[0]}
    Path(path).write_text(json.dumps({**facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
