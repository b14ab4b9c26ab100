"""All neurons on one CUDA GPU: parity with the reference, and time against the memory passes that the work needs.

    python benchmarks/gpu_neurons.py OUT.json

Every neuron's kernels are first built and checked by worker processes, then timed alone in this one: forward and backward, eager
and in a CUDA graph, medians of 30. "Passes" is the time to move what a perfect kernel would (x twice, output, its gradient, the
input's gradient) at the copy bandwidth measured here.
"""

import json
import multiprocessing
import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.core.discovery import discover
from ranvier.lab.machine import commit, hardware, versions

LIF_SHAPES = [(16, 32, 64, 32, 32), (100, 128, 1024), (4, 64, 384, 14, 14)]
SHAPE = (16, 64, 65536)
DRIVE = {"izhikevich": 20.0}


def made(name: str, **options: object) -> nn.Module:
    return discover("ranvier.nn.neurons", base="neuron")[name].load()(**options).cuda()


def driven(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator("cuda").manual_seed(1)
    x = torch.randn(shape, device="cuda", generator=generator) * 1.5 + 0.6
    return (x * DRIVE.get(name, 1.0)).to(dtype)


def learnable(name: str, features: int) -> nn.Module:
    """The neuron with every parameter learnt per feature, jittered within its bounds."""
    torch.manual_seed(0)
    layer = made(name)
    values = {}
    for k, declared in type(layer).declared.items():
        _, low, high = declared.scaled(1.0)
        start = getattr(layer, k).detach()
        value = (start + (0.05 * start.abs() + 0.01) * torch.rand(features, device="cuda")).clamp(low, high)
        values[k] = nn.Parameter(value)
    return type(layer)(**values)


def close(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Equal for spikes; for graded outputs equal but for rounding in their dtype."""
    return torch.isclose(a.float(), b.float(), rtol=1e-5 if a.dtype == torch.float32 else 8e-3, atol=1e-5)


def checked(name: str) -> dict[str, object]:
    """Parity of one neuron in one step-locked pass, and its gradients over a short sequence."""
    started = time.perf_counter()
    worst: dict[str, float] = {}
    rate = flips = 0.0
    for dtype in (torch.float32, torch.bfloat16):
        layer, x = learnable(name, 300), driven(name, (20, 8, 300), dtype)
        rest = layer.rest(x[:1])
        torch.manual_seed(3)
        y, _, course = ranvier.run(layer, x, rest, record=tuple(layer.states))
        rate = float((y != 0).float().mean())
        # each step again by the reference, from the kernel's own state
        state = rest
        for t in range(len(x)):
            with ranvier.backend("reference"):
                y_t, after = ranvier.run(layer, x[t : t + 1], state)
            same = close(y_t[0], y[t])
            flips += int((~same).sum())
            for k in layer.states:
                a, b = course[k][t][same], after[k][same]
                error = float(((a - b).abs() / b.abs().clamp_min(1.0)).max())
                worst[f"{dtype} state {k}"] = max(worst.get(f"{dtype} state {k}", 0.0), error)
            state = {**after, **{k: course[k][t] for k in layer.states}}
        # gradients over four steps, where float32 has not drifted apart
        found = []
        for which in ("reference", "fused"):
            with ranvier.backend(which):
                leaf = x[:4].clone().requires_grad_()
                layer.zero_grad()
                y4, final = ranvier.run(layer, leaf, rest)
                loss = (y4 * torch.linspace(-1, 1, 300, device="cuda")).sum()
                loss = loss + sum((v * v).sum() for k, v in final.items() if k in layer.states)
                loss.backward()
                found.append(
                    (y4.detach(), {"x": leaf.grad.float(), **{k: p.grad for k, p in layer.named_parameters()}})
                )
        if bool(close(found[0][0], found[1][0]).all()):
            for k, g in found[0][1].items():
                if g is not None:
                    error = float((g - found[1][1][k]).abs().max() / g.abs().max().clamp_min(1e-6))
                    worst[f"{dtype} gradient {k}"] = error
        else:
            worst[f"{dtype} gradients"] = float("nan")
    return {
        "neuron": name,
        "rate": rate,
        "flips": flips,
        "worst": max(worst.values()),
        "errors": worst,
        "seconds": time.perf_counter() - started,
    }


def warmed(name: str) -> dict[str, object]:
    try:
        result = checked(name)
        for dtype in (torch.float32, torch.bfloat16):
            layer, x = made(name), driven(name, SHAPE, dtype).requires_grad_()
            layer(x).sum().backward()
        torch.cuda.synchronize()
        return result
    except Exception as error:
        return {"neuron": name, "error": f"{type(error).__name__}: {error}"[:500]}


def median(f, rounds: int = 30) -> float:
    for _ in range(5):
        f()
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(rounds)]
    for a, b in events:
        a.record()
        f()
        b.record()
    torch.cuda.synchronize()
    return sorted(a.elapsed_time(b) for a, b in events)[rounds // 2]


def copied() -> float:
    """Bytes read and written in a second by a large copy."""
    a = torch.empty(1 << 28, device="cuda")
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / (median(lambda: b.copy_(a)) * 1e-3)


def graphed(f):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            f()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        f()
    return graph.replay


def timed(layer: nn.Module, x: torch.Tensor, bandwidth: float) -> dict[str, float]:
    x, gy = x.detach().requires_grad_(), torch.randn_like(x)

    def both() -> None:
        x.grad = None
        layer(x).backward(gy)

    passes = 5 * x.numel() * x.element_size() / bandwidth * 1e3
    graph, eager = median(graphed(both)), median(both)
    return {"graph ms": graph, "eager ms": eager, "five passes ms": passes, "graph / passes": graph / passes}


def kept(layer: nn.Module, x: torch.Tensor) -> float:
    sizes: dict[int, int] = {}

    def note(t: torch.Tensor) -> torch.Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        layer(x.requires_grad_())
    return sum(sizes.values()) / (x.numel() * x.element_size())


def main(path: str) -> None:
    names = list(discover("ranvier.nn.neurons", base="neuron"))
    result: dict[str, object] = {"commit": commit(), "hardware": hardware(), "versions": versions()}
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(12) as pool:
        result["parity"] = pool.map(warmed, names, chunksize=1)
    result["parity seconds"] = time.perf_counter() - started
    for row in result["parity"]:
        print({k: v for k, v in row.items() if k != "errors"}, flush=True)
    Path(path).write_text(json.dumps(result, indent=1))
    bandwidth = copied()
    result["copy GB/s"] = bandwidth / 1e9
    rows = result["lif"] = []
    for shape in LIF_SHAPES:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            layer, x = made("lif"), driven("lif", shape, dtype)
            row = {"shape": shape, "dtype": str(dtype), **timed(layer, x, bandwidth), "kept tensors": kept(layer, x)}
            rows.append(row)
            print(row, flush=True)
    Path(path).write_text(json.dumps(result, indent=1))
    firsts = result["first call s"] = {}
    for steps in (10, 4096):
        layer, x = made("lif", tau=2.5), driven("lif", (steps, 64, 256), torch.float32).requires_grad_()
        started = time.perf_counter()
        layer(x).sum().backward()
        torch.cuda.synchronize()
        firsts[steps] = time.perf_counter() - started
    result["time over T"] = {}
    for steps in (1, 4, 16, 64, 256, 1000, 4096):
        row = timed(made("lif"), driven("lif", (steps, 64, 256), torch.float32), bandwidth)
        result["time over T"][steps] = row["graph ms"]
    print(result["first call s"], result["time over T"], flush=True)
    Path(path).write_text(json.dumps(result, indent=1))
    others = result["neurons"] = []
    for name in names:
        for dtype in (torch.float32, torch.bfloat16):
            try:
                row = timed(made(name), driven(name, SHAPE, dtype), bandwidth)
            except Exception as error:
                row = {"error": f"{type(error).__name__}: {error}"[:300]}
            others.append({"neuron": name, "states": len(made(name).states), "dtype": str(dtype), **row})
            print(others[-1], flush=True)
    Path(path).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
