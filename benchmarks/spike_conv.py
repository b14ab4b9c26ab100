"""A training step of a spiking CNN beside its twin with ReLU, in each precision and layout, interleaved in one process.

    OMP_NUM_THREADS=2 python benchmarks/spike_conv.py OUT.json

3-64-128-256 channels, 32x32 pixels, T=4, B=32; convolution, batch norm over steps and samples, neuron, max-pool, three times, and
a linear read-out. The twin has ReLU in place of the neurons and torch's convolutions. Beside the times: the bytes that the
convolutions keep of their spikes, and which outputs leave the layout or the precision.
"""

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.lab.bench.timing import interleaved
from ranvier.lab.machine import commit, hardware, versions
from ranvier.nn.synapses.spike_conv import SpikeConv2d

SEED, ROUNDS = 0, 11
SITUATIONS = [("float32", False), ("float32", True), ("bfloat16", False), ("bfloat16", True)]


def network(neuron: Callable[[], nn.Module], conv: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(((3, 64), (64, 128), (128, 256))):
        kind = ranvier.Conv2d if i == 0 else conv  # the first layer sees a picture
        norm = ranvier.Fold(nn.BatchNorm2d(b))
        layers += [kind(a, b, 3, padding=1, bias=False), norm, neuron(), ranvier.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(2), ranvier.Linear(4096, 10))


NETWORKS = {
    "ReLU": lambda: network(nn.ReLU, ranvier.Conv2d),
    "LIF": lambda: network(ranvier.LIF, ranvier.Conv2d),
    "LIF, SpikeConv2d": lambda: network(ranvier.LIF, SpikeConv2d),
}


def spikingjelly() -> dict[str, Callable[[], nn.Sequential]]:
    """The same network with SpikingJelly's neurons, of the same equation, where it is installed."""
    try:
        from spikingjelly.activation_based import functional as state
        from spikingjelly.activation_based import neuron, surrogate
    except ImportError:
        return {}

    class Jelly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            alpha = 4 / math.pi / ranvier.LIF().surrogate.width
            self.node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(alpha), step_mode="m")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state.reset_net(self.node)
            y: torch.Tensor = self.node(x)
            return y

    return {"SpikingJelly": lambda: network(Jelly, ranvier.Conv2d)}


def example(last: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand(4, 32, 3, 32, 32, generator=generator)
    if last:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (4, 32))
    return x, torch.randint(0, 10, (32,), generator=generator)


def step(net: nn.Sequential, bits: str, last: bool) -> Callable[[], float]:
    x, y = example(last)
    if last:
        net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)

    def trained() -> float:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bits == "bfloat16"):
            score = net(x).mean(0)
        loss = nn.functional.cross_entropy(score.float(), y)
        loss.backward()
        optimiser.step()
        return loss.item()

    return trained


def lost(net: nn.Sequential, bits: str, last: bool) -> list[str]:
    """The modules that give out another layout or dtype than is asked for."""
    found = []
    form = torch.channels_last if last else torch.contiguous_format

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: object, y: torch.Tensor) -> None:
            if y.dtype != getattr(torch, bits) or not y.flatten(0, 1).is_contiguous(memory_format=form):
                found.append(f"{name} {type(module).__name__}")

        return hook

    hooks = [m.register_forward_hook(look(k)) for k, m in net.named_children() if not isinstance(m, nn.Flatten)]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bits == "bfloat16"):
        net[:-2](example(last)[0])
    for hook in hooks:
        hook.remove()
    return found


def kept(net: nn.Sequential) -> dict[str, int]:
    """Bytes that each convolution of spikes keeps for backward, beside those of its input as float32."""
    found = {}
    x = example(False)[0]
    for name, module in net.named_children():
        if isinstance(module, nn.Conv2d) and name != "0":
            seen: dict[int, int] = {}

            def keep(t: torch.Tensor, seen: dict = seen, module: nn.Module = module) -> torch.Tensor:
                if t.data_ptr() != module.weight.data_ptr():
                    seen[t.data_ptr()] = t.untyped_storage().nbytes()
                return t

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                module(x.detach())
            found[name] = {"kept": sum(seen.values()), "floats": 4 * x.numel()}
        x = module(x).detach()
    return found


def main(path: str) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    networks = NETWORKS | spikingjelly()
    alike = [step(make(), "float32", False) for name, make in networks.items() if name != "ReLU"]
    losses = [[f() for _ in range(3)] for f in alike]
    assert all(max(each) - min(each) < 1e-3 for each in zip(*losses, strict=True)), losses
    rows = []
    for bits, last in SITUATIONS:
        nets = {name: make() for name, make in networks.items()}
        times = interleaved({name: step(net, bits, last) for name, net in nets.items()}, ROUNDS, warm_up=2)
        assert not any(t.error for t in times.values()), times
        ms = {name: t.median for name, t in times.items()}
        ratio = {name: t / ms["ReLU"] for name, t in ms.items()}
        rows.append({"dtype": bits, "channels last": last, "ms": ms, "x ReLU": ratio, "to reach": 1.05})
        rows[-1]["outputs of another layout or dtype"] = {k: lost(net, bits, last) for k, net in nets.items()}
        print(rows[-1], flush=True)
    memory = {k: kept(NETWORKS[k]()) for k in ("LIF", "LIF, SpikeConv2d")}
    print(memory)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "threads": torch.get_num_threads()}
    facts |= {"seed": SEED, "rounds": ROUNDS, "load before": os.getloadavg()[0]}
    Path(path).write_text(json.dumps({**facts, "rows": rows, "kept for backward": memory}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
