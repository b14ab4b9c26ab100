"""A dense input layer on events, forward and weight gradient: a dense product beside `SpikeLinear`, interleaved in one process.

    OMP_NUM_THREADS=2 python benchmarks/spike_linear.py OUT.json

12800 rows of 700 inputs (T=100, B=128) to 256 outputs. Three ways: torch's product into memory that is there already,
`SpikeLinear` on the dense tensor (packing included), and on events (`Spikes`, as a data set gives them). What turning arrays of
events into `Spikes` takes is measured by itself. Then, for several sizes, the times of both ways at many densities beside
the way that is chosen by the crossover measured on this machine.
"""

import json
import os
import sys
from pathlib import Path
from statistics import median

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from ranvier.lab.bench.timing import interleaved
from ranvier.lab.machine import commit, hardware, versions
from ranvier.nn.synapses.spike_linear import SpikeLinear
from ranvier.ops.spike_linear import cpu
from ranvier.ops.spike_linear.crossover import crossovers
from ranvier.ops.spike_pack import indices, pack, unpack
from ranvier.ops.spike_pack.spikes import Spikes

SEED, ROUNDS = 0, 15
STEPS, BATCH, INPUTS, OUTPUTS = 100, 128, 700, 256
TARGETS = {0.01: 15.0, 0.03: 7.4, 0.05: 4.5, 0.1: 2.7, 0.2: 1.6}
SIZES = [(700, 256), (256, 256), (256, 20), (1024, 1024), (128, 512)]
DENSITIES = (0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


def medians(cases: dict) -> dict[str, float]:
    times = interleaved(cases, ROUNDS)
    assert not any(t.error for t in times.values()), times
    return {name: t.median for name, t in times.items()}


def layer_row(density: float) -> dict[str, object]:
    generator = torch.Generator().manual_seed(SEED)
    x = (torch.rand(STEPS, BATCH, INPUTS, generator=generator) < density).float()
    grad = torch.randn(STEPS, BATCH, OUTPUTS, generator=generator)
    layer = SpikeLinear(INPUTS, OUTPUTS, bias=False)
    torchs = nn.Linear(INPUTS, OUTPUTS, bias=False)
    torchs.load_state_dict(layer.state_dict())
    events = Spikes.from_dense(x)
    step, sample, feature = x.nonzero().to(torch.int32).T.contiguous().unbind()
    shuffled = torch.randperm(len(step), generator=generator)
    columns = [c[shuffled] for c in (step, sample, feature)]
    rows, flat = x.view(-1, INPUTS), grad.view(-1, OUTPUTS)
    out, found = torch.empty(len(rows), OUTPUTS), torch.empty(INPUTS, OUTPUTS)
    turned = layer.weight.detach().t().contiguous()

    def dense() -> None:
        torch.mm(rows, turned, out=out)
        torch.mm(rows.t(), flat, out=found)

    def trained(module: nn.Module, given: object) -> None:
        module.weight.grad = None
        module(given).backward(grad)

    cases = {
        "dense product": dense,
        "torch Linear": lambda: trained(torchs, x),
        "SpikeLinear on a dense tensor": lambda: trained(layer, x),
        "SpikeLinear on events": lambda: trained(layer, events),
        "events to Spikes": lambda: Spikes.from_events(*columns, x.shape),
    }
    for name in list(cases)[1:]:
        cases[name]()
    error = (layer(x) - torchs(x)).abs().max().item()
    layer.weight.grad = torchs.weight.grad = None
    trained(layer, events), trained(torchs, x)
    gradient = ((layer.weight.grad - torchs.weight.grad).abs().max() / torchs.weight.grad.abs().max()).item()
    assert error < 1e-4 and gradient < 1e-4 and torch.equal(Spikes.from_events(*columns, x.shape).dense(), x)
    ms = medians(cases)
    ratio = {name: ms["dense product"] / ms[name] for name in cases}
    return {"density": density, "ms": ms, "dense product / this": ratio, "to reach": TARGETS[density]}


def choice_row(inputs: int, outputs: int) -> list[dict[str, object]]:
    """Both ways at all densities, and how much slower the chosen one is than the better."""
    generator = torch.Generator().manual_seed(SEED)
    rows = min(max((1 << 28) // (inputs * outputs), 256), 4096)
    weight = torch.randn(outputs, inputs, generator=generator)
    grad = torch.randn(rows, outputs, generator=generator)
    xs = {d: (torch.rand(rows, inputs, generator=generator) < d).float() for d in DENSITIES}
    packed = {d: pack(x, inputs)[0] for d, x in xs.items()}
    bits = packed[DENSITIES[0]]
    limits = crossovers(1 << 20, inputs, outputs, torch.float32)
    found = []
    for what, limit in zip(("forward", "weight"), limits, strict=True):
        cases = {"dense": lambda: xs[DENSITIES[0]] @ weight.t()}
        if what == "weight":
            cases = {"dense": lambda: grad.t() @ unpack(bits, torch.float32).view(rows, inputs)}
        for d, p in packed.items():
            if what == "forward":
                cases[str(d)] = lambda p=p: cpu.forward(*indices(p), None, weight, None)
            else:
                cases[str(d)] = lambda p=p: cpu.weight_gradient(*indices(p), None, grad, inputs)
        ms = medians(cases)
        dense = ms.pop("dense")
        worst = max((t if float(d) <= limit else dense) / min(t, dense) for d, t in ms.items())
        found.append({"what": what, "inputs": inputs, "outputs": outputs, "rows": rows, "crossover": limit})
        found[-1] |= {"dense ms": dense, "sparse ms by density": ms, "chosen / better, at worst": worst}
    return found


def main(path: str) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rows = []
    for density in TARGETS:
        rows.append(layer_row(density))
        shown = {k: round(v, 1) for k, v in rows[-1]["dense product / this"].items()}
        print(f"{density:.0%}: dense {rows[-1]['ms']['dense product']:.1f} ms, dense / this {shown}", flush=True)
    choices = [row for sizes in SIZES for row in choice_row(*sizes)]
    for row in choices:
        print({k: v for k, v in row.items() if "ms" not in k}, flush=True)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "threads": torch.get_num_threads()}
    facts |= {"seed": SEED, "rounds": ROUNDS, "load before": os.getloadavg()[0]}
    facts |= {"median of worst choices": median(row["chosen / better, at worst"] for row in choices)}
    Path(path).write_text(json.dumps({**facts, "layer": rows, "choices": choices}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
