"""A training step of a recurrent spiking net on a CPU, beside the same net of other libraries, interleaved in one process.

    python benchmarks/recurrent.py OUT.json [THREADS] [ROUNDS]

700 inputs, 256 recurrent LIF neurons, 20 leaky readouts; 100 steps, 128 samples, 3 % of the inputs spike; forward, backward and
Adam. First spikes and gradients are compared with the plain loop in float64. Last, at densities of spikes from 5 to 60 %, sums of
rows against products, and what is chosen between them. Peers that are not installed are left out by name:
    pip install --no-deps spikingjelly==2.0.0 snntorch==1.0.0 norse==1.1.0 loguru==0.7.3 nir==1.0.8 nirtorch tqdm
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.lab.machine import commit, hardware, versions
from ranvier.nn.surrogates import Arctan
from ranvier.nn.synapses.spike_linear import SpikeLinear
from ranvier.ops.recurrent_scan import cpu

STEPS, BATCH, INPUTS, HIDDEN, OUTPUTS, DENSITY, DECAY = 100, 128, 700, 256, 20, 0.03, 0.9
SEED = 3


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return g / (1 + (math.pi * u).square())


class Net(nn.Module):
    """The weights, the same for all; what lies between them is up to `hidden`, input current to spikes."""

    def __init__(self, hidden: Callable[["Net", Tensor], Tensor], synapse: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        self.into, self.out = synapse(INPUTS, HIDDEN, bias=False), synapse(HIDDEN, OUTPUTS, bias=False)
        self.back = nn.Linear(HIDDEN, HIDDEN, bias=False)
        nn.init.normal_(self.into.weight, std=0.25)
        nn.init.normal_(self.back.weight, std=0.03)
        nn.init.normal_(self.out.weight, std=0.06)
        self.hidden = hidden
        self.read = ranvier.LeakyIntegrator(tau=1 / (1 - DECAY))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoded(self.out(self.hidden(self, self.into(x))))

    def decoded(self, z: Tensor) -> Tensor:
        u, total = 0.0, 0.0
        for z_t in z.unbind(0):
            u = DECAY * u + z_t
            total = total + u
        return total / STEPS


class Ours(Net):
    def __init__(self, synapse: type[nn.Linear] = SpikeLinear) -> None:
        super().__init__(lambda net, x: net.layer(x), synapse)
        # a tenth of the others' membrane, since ours takes a tenth of its input
        surrogate = Arctan(width=2 * (1 - DECAY) / math.pi)
        lif = ranvier.LIF(tau=1 / (1 - DECAY), threshold=1 - DECAY, detach_reset=True, surrogate=surrogate)
        self.layer = ranvier.Recurrent(lif, self.back)

    def decoded(self, z: Tensor) -> Tensor:
        return self.read(z).mean(0) / (1 - DECAY)


def cell(v: Tensor, z: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    h = DECAY * v + x + functional.linear(z, weight)
    z = Spike.apply(h - 1)
    return h * (1 - z.detach()), z


def looped(step: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[Net, Tensor], Tensor]:
    def hidden(net: Net, x: Tensor) -> Tensor:
        v = z = torch.zeros_like(x[0])
        found = []
        for x_t in x.unbind(0):
            v, z = step(v, z, x_t, net.back.weight)
            found.append(z)
        return torch.stack(found)

    return hidden


def spikingjelly() -> Net:
    from spikingjelly.activation_based import functional as whole
    from spikingjelly.activation_based import layer, neuron, surrogate

    node = neuron.LIFNode(
        tau=1 / (1 - DECAY), decay_input=False, detach_reset=True, surrogate_function=surrogate.ATan()
    )

    def hidden(net: Net, x: Tensor) -> Tensor:
        whole.reset_net(recurrent)
        return recurrent(x)

    net = Net(hidden)
    recurrent = net.recurrent = layer.LinearRecurrentContainer(node, HIDDEN, HIDDEN, bias=False)
    whole.set_step_mode(recurrent, "m")
    return net


def snntorch() -> Net:
    import snntorch as snn

    def hidden(net: Net, x: Tensor) -> Tensor:
        z, v = recurrent.reset_mem()
        found = []
        for x_t in x.unbind(0):
            z, v = recurrent(x_t, z, v)
            found.append(z)
        return torch.stack(found)

    net = Net(hidden)
    slope = snn.surrogate.atan()
    recurrent = net.recurrent = snn.RLeaky(DECAY, linear_features=HIDDEN, reset_mechanism="zero", spike_grad=slope)
    return net


def norse() -> Net:
    import norse.torch as library

    def hidden(net: Net, x: Tensor) -> Tensor:
        state, found = None, []
        for x_t in x.unbind(0):
            z, state = recurrent(x_t, state)
            found.append(z)
        return torch.stack(found)

    net = Net(hidden)
    recurrent = net.recurrent = library.LIFRecurrentCell(HIDDEN, HIDDEN)
    return net


CASES: dict[str, Callable[[], Net]] = {
    "ranvier": Ours,
    "ranvier, dense input layer": lambda: Ours(nn.Linear),
    "torch.compile of the cell": lambda: Net(looped(torch.compile(cell, dynamic=False))),
    "torch loop": lambda: Net(looped(cell)),
    "spikingjelly LinearRecurrentContainer": spikingjelly,
    "snntorch RLeaky": snntorch,
    "norse LIFRecurrentCell": norse,
}


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    x = (torch.rand((STEPS, BATCH, INPUTS), generator=generator) < DENSITY).float()
    return x, torch.randint(0, OUTPUTS, (BATCH,), generator=generator)


def parity() -> dict[str, float]:
    """How far ours is from the plain loop: spikes that differ, and gradients against their largest element (0.1 is a float32)."""
    x, y = data()
    found = []
    for net in (Ours(nn.Linear).double(), Net(looped(cell)).double()):
        spikes = net.hidden(net, net.into(x.double()))
        functional.cross_entropy(net(x.double()), y).backward()
        found.append((spikes.detach(), net.into.weight.grad, net.back.weight.grad, net.out.weight.grad))
    (z, *ours), (other, *theirs) = found
    errors = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True)]
    rate, differing = float(z.mean()), float((z != other).double().mean())
    assert differing == 0 and max(errors) < 1e-6 and rate > 0.01, (rate, differing, errors)
    return {"rate": rate, "spikes that differ": differing, "largest gradient error": max(errors)}


def training(net: Net) -> Callable[[], None]:
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-5)  # so small that the spikes stay as many as they are
    x, y = data()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(net(x), y).backward()
        optimiser.step()

    return step


def crossing(width: int, density: float, rounds: int) -> dict[str, float]:
    """Milliseconds of forward and backward by sums of rows, by products and by the choice between them."""
    torch.manual_seed(SEED)
    layer = ranvier.Recurrent(ranvier.LIF(tau=1.0), nn.Linear(width, width, bias=False))
    nn.init.normal_(layer.synapse.weight, std=1e-3)
    steps = max(4, 10_000 // width)
    x = (100.0 * (torch.rand(steps, 64, width) < density)).requires_grad_()
    chosen, times = cpu.crossovers, {}
    ways = {"sums": lambda _: (2.0, 2.0), "products": lambda _: (-1.0, -1.0), "chosen": chosen}
    for _ in range(rounds + 2):
        for way, crossovers in ways.items():
            cpu.crossovers = crossovers
            start = time.perf_counter()
            torch.autograd.grad(layer(x).sum(), [x, layer.synapse.weight])
            times.setdefault(way, []).append(time.perf_counter() - start)
    cpu.crossovers = chosen
    found = {way: statistics.median(t[2:]) * 1e3 for way, t in times.items()}
    return {"width": width, "density": density, **found, "x better": found["chosen"] / min(found.values())}


def main(path: str, threads: int = 2, rounds: int = 15) -> None:
    torch.set_num_threads(threads)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "seed": SEED, "parity": parity()}
    print(facts["parity"])
    steps, missing = {}, {}
    for name, make in CASES.items():
        try:
            step = training(make())
            for _ in range(3):
                step()
            steps[name] = step
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}"
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    rows = []
    for name, found in times.items():
        ratio = statistics.median(t / o for t, o in zip(found, times["ranvier"], strict=True))
        rows.append(
            {"name": name, "ms": statistics.median(found) * 1e3, "least ms": min(found) * 1e3, "x ranvier": ratio}
        )
        print(f"{name:40} {rows[-1]['ms']:8.1f} ms  least {rows[-1]['least ms']:8.1f}  {ratio:5.2f} x ranvier")
    print(missing)
    densities = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    crossed = [crossing(width, density, rounds) for width in (64, 256, 1024) for density in densities]
    for row in crossed:
        print(row)
    result = {**facts, "rows": rows, "missing": missing, "crossover": crossed}
    Path(path).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
