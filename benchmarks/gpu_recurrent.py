"""Recurrent spiking neurons on one CUDA GPU: parity with the reference, and time beside a cuDNN LSTM of equal width.

    python benchmarks/gpu_recurrent.py OUT.json

Parity first: each step again by the reference from the kernel's own state, and gradients in float64. Then forward and backward of
the recurrence alone, at both precisions of float32 products ("highest", and "high" with TF32, which the LSTM takes by default):
the LSTM's input product is counted in, ours (a fourth of it) too. Medians of 10 after 3.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.lab.machine import commit, hardware, versions

SIZES = [(1000, 128, 1024), (1000, 128, 256), (250, 128, 512), (1000, 16, 1024)]
NEURONS = {"LIF": ranvier.LIF, "AdaptiveLIF": ranvier.AdaptiveLIF, "StochasticLIF": ranvier.StochasticLIF}


def made(name: str, width: int, learnt: bool = False, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    tau = torch.full((width,), 4.0)
    neuron = NEURONS[name](tau=nn.Parameter(tau) if learnt else 4.0)
    synapse = nn.Linear(width, width)
    nn.init.normal_(synapse.weight, std=width**-0.5)
    return ranvier.Recurrent(neuron, synapse).to("cuda", dtype)


def parity(name: str, steps: int, batch: int, width: int) -> dict[str, object]:
    """Spikes that differ step by step; whole and chunks; gradients of float64 by both ways."""
    layer = made(name, width)
    x = 2 * torch.randn(steps, batch, width, device="cuda") + 1
    torch.manual_seed(1)
    with torch.no_grad():
        rest = layer.rest(x)
        y, _, course = ranvier.run(layer, x, rest, record=tuple(layer.neuron.states))
        state, later, differing, chunks = rest, rest, 0, []
        for t in range(steps):
            with ranvier.backend("reference"):
                y_t, after = ranvier.run(layer, x[t : t + 1], state)
            differing += int((y_t[0] != y[t]).sum())
            state = {**after, "z": y[t], **{k: course[k][t] for k in layer.neuron.states}}
        for chunk in x.split(steps // 3 + 1):
            part, later = ranvier.run(layer, chunk, later)
            chunks.append(part)
        again = ranvier.run(layer, x, rest)[0]
    double = made(name, width, True, torch.float64)
    found = []
    for backend in ("fused", "reference"):
        leaf = x.double().requires_grad_()
        torch.manual_seed(1)
        with ranvier.backend(backend):
            z, end = ranvier.run(double, leaf)
            weight = torch.linspace(-1, 1, width, device="cuda", dtype=torch.float64)
            loss = (z * weight).sum() + sum((end[k] ** 2).sum() for k in double.neuron.states)
            found.append((z.detach(), torch.autograd.grad(loss, [leaf, *double.parameters()])))
    (z, ours), (other, theirs) = found
    errors = [float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in zip(ours, theirs, strict=True)]
    return {
        "neuron": name,
        "size": (steps, batch, width),
        "rate": float(y.mean()),
        "spikes that differ": differing,
        "of": y.numel(),
        "chunks equal": torch.equal(torch.cat(chunks), y),
        "again equal": torch.equal(again, y),
        "float64 spikes that differ": int((z != other).sum()),
        "float64 gradient errors": errors,
    }


def median(f, rounds: int = 10) -> float:
    for _ in range(3):
        f()
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(rounds)]
    for a, b in events:
        a.record()
        f()
        b.record()
    torch.cuda.synchronize()
    return sorted(a.elapsed_time(b) for a, b in events)[rounds // 2]


class Ours(nn.Module):
    def __init__(self, name: str, width: int, learnt: bool) -> None:
        super().__init__()
        self.into, self.layer = nn.Linear(width, width).cuda(), made(name, width, learnt)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.into(x))


def passes(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Milliseconds of forward alone, of forward and backward, and the first call's."""
    x = x.detach().requires_grad_()
    gy = torch.randn_like(x)

    def output() -> Tensor:
        y = net(x)
        return y[0] if isinstance(y, tuple) else y

    def both() -> None:
        torch.autograd.grad(output(), [x, *net.parameters()], gy)

    def forward() -> None:
        with torch.no_grad():
            output()

    start = time.perf_counter()
    both()
    torch.cuda.synchronize()
    first = time.perf_counter() - start
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = {"both ms": median(both), "inference ms": median(forward), "first call s": first}
    return {**found, "peak MiB": (torch.cuda.max_memory_allocated() - before) / 2**20}


def main(path: str) -> None:
    result: dict[str, object] = {"commit": commit(), "hardware": hardware(), "versions": versions()}
    checks = result["parity"] = []
    for name in NEURONS:
        for size in ((150, 16, 256), (37, 3, 50), (1, 2, 7)):
            checks.append(parity(name, *size))
            print(checks[-1], flush=True)
            row = checks[-1]
            assert row["spikes that differ"] <= 1e-4 * row["of"] + 1 and row["again equal"], row
            if row["float64 spikes that differ"] == 0:
                assert max(row["float64 gradient errors"]) < 1e-6, row
    Path(path).write_text(json.dumps(result, indent=1))
    rows = result["times"] = []
    for steps, batch, width in SIZES:
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            torch.backends.cudnn.allow_tf32 = precision == "high"
            x = torch.randn(steps, batch, width, device="cuda")
            lstm = passes(nn.LSTM(width, width).cuda(), x)
            nets = {"LIF": Ours("LIF", width, False), "AdaptiveLIF, tau learnt": Ours("AdaptiveLIF", width, True)}
            for name, net in nets.items():
                ours = passes(net, x)
                row = {
                    "size": (steps, batch, width),
                    "precision": precision,
                    "neuron": name,
                    "ours": ours,
                    "LSTM": lstm,
                }
                row["x LSTM"] = ours["both ms"] / lstm["both ms"]
                row["x LSTM, inference"] = ours["inference ms"] / lstm["inference ms"]
                rows.append(row)
                print(row, flush=True)
                Path(path).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
