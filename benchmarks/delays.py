"""A training step of a net with learnt delays, beside the same kernels as torch's conv1d and the same net without delays.

    OMP_NUM_THREADS=2 python benchmarks/delays.py OUT.json [--sketch FOLDER] [--crossover]

On a CPU: 700-256-256-20, delays up to 24 steps, T = 100, B = 64, 3 % of the input are spikes. On a GPU: T = 250, B = 256, each
also as a CUDA graph. DCLS, and SpikingJelly's neuron with it, take part where they are installed; FOLDER is a folder whose
`delaylayer.py` has a DelayLinear to take part too. First every layer's output and gradients are compared with float64. With
--crossover it also times both ways to compute over densities, and says how far the chosen one is from the better.
"""

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.lab.bench.timing import gpu, interleaved, wall
from ranvier.lab.machine import commit, hardware, versions
from ranvier.nn.synapses.delayed_linear import DelayedLinear

SIZES, LONGEST, DENSITY, SEED, ROUNDS = (700, 256, 256, 20), 24, 0.03, 3, 11
KINDS = {"triangle": ("triangle", 0.0), "width 1": ("gaussian", 0.73), "width 3": ("gaussian", 2.73)}
CUDA = torch.cuda.is_available()
STEPS, BATCH = (250, 256) if CUDA else (100, 64)
DEVICE = torch.device("cuda" if CUDA else "cpu")


class Conv(nn.Module):
    """The same synapse as one conv1d over time, its kernel made by torch."""

    def __init__(self, inputs: int, outputs: int, kind: str, sigma: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * 0.3)
        self.delay = nn.Parameter(torch.rand(outputs, inputs) * LONGEST)
        self.kind, self.sigma = kind, sigma

    def forward(self, x: Tensor) -> Tensor:
        u = torch.arange(LONGEST, -1, -1, device=x.device, dtype=x.dtype) - self.delay.unsqueeze(-1)
        g = (1 - u.abs()).clamp(min=0) if self.kind == "triangle" else torch.exp(-0.5 * (u / (self.sigma + 0.27)) ** 2)
        kernel = self.weight.unsqueeze(-1) * g / (g.sum(-1, keepdim=True) + 1e-7)
        return functional.conv1d(functional.pad(x.permute(1, 2, 0), (LONGEST, 0)), kernel).permute(2, 0, 1).contiguous()


def ours(kind: str, sigma: float) -> Callable[[int, int], nn.Module]:
    def layer(inputs: int, outputs: int) -> nn.Module:
        made = DelayedLinear(inputs, outputs, LONGEST, kind=kind, sigma=sigma)
        nn.init.normal_(made.weight, std=0.3)
        return made

    return layer


def dcls(kind: str, sigma: float) -> Callable[[int, int], nn.Module]:
    from DCLS.construct.modules import Dcls1d

    class Layer(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            version = "v1" if kind == "triangle" else "gauss"
            self.conv = Dcls1d(
                inputs, outputs, kernel_count=1, dilated_kernel_size=LONGEST + 1, bias=False, version=version
            )
            nn.init.normal_(self.conv.weight, std=0.3)
            with torch.no_grad():
                self.conv.P.uniform_(-(LONGEST // 2), LONGEST // 2)
                if kind != "triangle":
                    self.conv.SIG.fill_(sigma)
                    self.conv.SIG.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(functional.pad(x.permute(1, 2, 0), (LONGEST, 0))).permute(2, 0, 1).contiguous()

    return Layer


def sketched(kind: str, sigma: float, folder: str) -> Callable[[int, int], nn.Module]:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    from delaylayer import DelayLinear

    class Layer(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.3)
            self.delay = nn.Parameter(torch.rand(inputs, outputs) * LONGEST)

        def forward(self, x: Tensor) -> Tensor:
            return DelayLinear.apply(x, self.weight, self.delay, None if kind == "triangle" else sigma + 0.27)

    return Layer


class SpikingJelly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from spikingjelly.activation_based import functional as state
        from spikingjelly.activation_based import neuron, surrogate

        self.reset = state.reset_net
        self.neuron = neuron.LIFNode(2.0, detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        self.reset(self.neuron)
        return self.neuron(x)


class Net(nn.Module):
    def __init__(self, synapse: Callable[[int, int], nn.Module], neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        self.synapses = nn.ModuleList([synapse(a, b) for a, b in pairwise(SIZES)])
        self.neurons = nn.ModuleList([neuron(), neuron()])

    def forward(self, x: Tensor) -> Tensor:
        for synapse, neuron in zip(self.synapses, self.neurons, strict=False):
            x = neuron(synapse(x))
        return self.synapses[-1](x).mean(0)


def lif() -> nn.Module:
    return ranvier.LIF(tau=2.0, detach_reset=True)


def training(net: nn.Module, graph: bool, half: bool = False) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(SEED)
    x = (torch.rand((STEPS, BATCH, SIZES[0]), generator=generator) < DENSITY).float().to(DEVICE)
    target = torch.randint(0, SIZES[-1], (BATCH,), generator=generator).to(DEVICE)
    optimiser = torch.optim.Adam(net.to(DEVICE).parameters(), lr=1e-3, capturable=CUDA)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
            loss = functional.cross_entropy(net(x), target)
        loss.backward()
        optimiser.step()

    if not graph:
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    held = x, target, optimiser  # the graph reads where they lie
    return lambda: (captured.replay(), held)[0]


def parity(kind: str, sigma: float) -> float:
    """The worst relative error of our layer's output and gradients against the conv in float64."""
    torch.manual_seed(SEED)
    layer, conv = ours(kind, sigma)(60, 40).to(DEVICE), Conv(60, 40, kind, sigma).double().to(DEVICE)
    with torch.no_grad():
        conv.weight.copy_(layer.weight), conv.delay.copy_(layer.delay)
    x = (torch.rand(60, 12, 60) < 0.1).float().to(DEVICE)
    gy = torch.randn(60, 12, 40).to(DEVICE)
    found = []
    for module in (layer, conv):
        leaf = x.to(module.weight.dtype).requires_grad_()
        y = module(leaf)
        found.append([y, *torch.autograd.grad(y, [leaf, module.weight, module.delay], gy.to(y.dtype))])
    return max(float(((a - b).abs().max() / b.abs().max()).detach()) for a, b in zip(*found, strict=True))


def crossover() -> list[dict[str, object]]:
    """Both ways to compute, over densities: which is faster, which is chosen, and what a wrong choice costs."""
    from ranvier.ops.delayed_linear import Window, cpu

    rows = []
    choosers = cpu.spikes_pay, cpu.gathering_pays
    for name, (kind, sigma) in KINDS.items():
        window, width = Window(kind, LONGEST, 0, 0), torch.tensor(sigma)
        taps = cpu.taps_of(window, width)
        weight, delay, gy = torch.randn(256, 128), torch.rand(256, 128) * LONGEST, torch.randn(STEPS, BATCH, 256)
        for density in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0):
            x = (torch.rand(STEPS, BATCH, 128) < density).float()
            kept = {}
            for by_spikes in (True, False):
                cpu.spikes_pay = cpu.gathering_pays = lambda *_, answer=by_spikes: answer
                kept[by_spikes] = cpu.forward(window, x, weight, delay, width, True)[1]

            def forward(by_spikes: bool, x=x, weight=weight, delay=delay, window=window, width=width) -> object:
                cpu.spikes_pay = lambda *_: by_spikes
                return cpu.forward(window, x, weight, delay, width, False)

            def gradients(by_spikes: bool, weight=weight, delay=delay, window=window, width=width, gy=gy, kept=kept):
                return cpu.backward(window, STEPS, weight, delay, width, kept[by_spikes], gy, False, True)

            chosen = choosers[0](density, taps, BATCH), choosers[1](density, taps)
            for what, case, by_spikes in zip(("output", "gradients"), (forward, gradients), chosen, strict=True):
                times = interleaved({k: lambda k=k, case=case: case(k) for k in (True, False)}, 5)
                medians = {k: t.median for k, t in times.items()}
                loss = medians[by_spikes] / min(medians.values())
                row = {"kind": name, "what": what, "density": density, "by spikes ms": medians[True]}
                rows.append({**row, "otherwise ms": medians[False], "chosen": by_spikes, "of the better": loss})
                print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    cpu.spikes_pay, cpu.gathering_pays = choosers
    return rows


def main(path: str, sketch: str | None, with_crossover: bool) -> None:
    facts: dict[str, object] = {"commit": commit(), "hardware": hardware(), "versions": versions(), "seed": SEED}
    facts["parity"] = {name: parity(*kind) for name, kind in KINDS.items()}
    print(facts["parity"], flush=True)
    assert max(facts["parity"].values()) < (5e-3 if CUDA else 1e-5), "not equal, so not timed"
    nets: dict[str, Net] = {}
    for name, kind in KINDS.items():
        nets[f"ranvier, {name}"] = Net(ours(*kind), lif)
        nets[f"conv1d, {name}"] = Net(lambda i, o, kind=kind: Conv(i, o, *kind), lif)
        if sketch and not CUDA:
            nets[f"sketch, {name}"] = Net(sketched(*kind, sketch), lif)
        try:
            nets[f"DCLS + SpikingJelly, {name}"] = Net(dcls(*kind), SpikingJelly)
        except ImportError as error:
            facts["not installed"] = str(error)
    nets["no delays"] = Net(lambda i, o: nn.Linear(i, o, bias=False), lif)
    cases = {name: training(net, False) for name, net in nets.items()}
    if CUDA:
        for name, net in nets.items():
            if "SpikingJelly" not in name:
                cases[f"{name}, as a graph"] = training(net, True)
                cases[f"{name}, bfloat16, as a graph"] = training(net, True, half=True)
    times = interleaved(cases, ROUNDS, gpu if CUDA else wall)
    facts["ms"] = {k: t.median for k, t in times.items() if not t.error}
    facts["errors"] = {k: t.error for k, t in times.items() if t.error}
    for name, ms in sorted(facts["ms"].items(), key=lambda item: item[1]):
        print(f"{name:44} {ms:9.2f} ms", flush=True)
    if with_crossover and not CUDA:
        facts["crossover"] = crossover()
    Path(path).write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    words = sys.argv[1:]
    folder = words[words.index("--sketch") + 1] if "--sketch" in words else None
    main(words[0], folder, "--crossover" in words)
