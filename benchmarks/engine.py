"""One step at batch 1 through a trained-size network: the event-driven engine beside torch and the libraries that are here.

    python benchmarks/engine.py OUT.json [PEERS]    PEERS: a folder of SpikingJelly, snnTorch and Norse

LIF 700-1024-1024-20 at 1, 5 and 20 % of spikes in every layer (random weights scaled for it), then density from 0 to 1 for the
plot of cost against spikes. All in one process, interleaved, medians, the engine's spikes compared with torch's before.
"""

import json
import os
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
if len(sys.argv) > 2:
    sys.path.insert(0, sys.argv[2])

import ranvier
from ranvier.deploy.engine.program import compile
from ranvier.lab.bench.timing import interleaved
from ranvier.lab.machine import commit, hardware, versions

SEED, ROUNDS, STEPS, DECAY = 0, 9, 200, 0.9
SIZES = (700, 1024, 1024, 20)
TARGETS = {0.01: 25.0, 0.05: 12.0, 0.2: 6.0}


def lif(current: np.ndarray) -> np.ndarray:
    v, out = np.zeros(current.shape[1], np.float32), np.zeros_like(current)
    for t in range(len(current)):
        v = np.float32(DECAY) * v + current[t]
        out[t] = v >= 1
        v[v >= 1] = 0
    return out


def workload(density: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Input spikes, and weights with which every layer fires at about the same density."""
    rng = np.random.default_rng(SEED)
    x = (rng.random((STEPS, SIZES[0])) < density).astype(np.float32)
    weights, spikes = [], x
    for inputs, outputs in pairwise(SIZES):
        w = rng.standard_normal((inputs, outputs)).astype(np.float32)
        base, low, high = spikes @ w, 1e-4, 10.0
        for _ in range(25):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if lif(base * np.float32(middle)).mean() > density else (middle, high)
        weights.append(np.ascontiguousarray(w * np.float32(middle)))
        spikes = lif(spikes @ weights[-1])
    return x, weights


def network(weights: list[np.ndarray]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for w in weights:
        linear = nn.Linear(*w.shape, bias=False)
        linear.weight.data.copy_(torch.from_numpy(w.T / (1 - DECAY)))
        layers += [linear, ranvier.LIF(tau=1 / (1 - DECAY))]
    return nn.Sequential(*layers)


def cases(x: np.ndarray, weights: list[np.ndarray]) -> dict:
    frames = torch.from_numpy(x)
    rows = [w.T.copy() for w in weights]
    wide = [torch.from_numpy(w) for w in rows]
    live = compile(network(weights), [SIZES[0]]).live()
    starts = np.concatenate([[0], np.cumsum((x != 0).sum(1))])
    places = np.nonzero(x)[1].astype(np.int32)

    def step_by_step() -> None:
        for row in x:
            live.step(row)

    def torch_dense() -> None:
        with torch.inference_mode():
            v = [torch.zeros(1, n) for n in SIZES[1:]]
            for t in range(STEPS):
                s = frames[t : t + 1]
                for i, w in enumerate(wide):
                    h = torch.addmm(v[i], s, w.t(), beta=DECAY)
                    s = (h >= 1).float()
                    v[i] = h * (1 - s)

    found = {
        "ranvier, a call a step": step_by_step,
        "ranvier, all steps": partial(live.frames, frames),
        "ranvier, events": partial(live.events, starts, places),
        "torch, dense": torch_dense,
    }
    return found | (peers(frames, weights) if len(sys.argv) > 2 else {})


def peers(frames: torch.Tensor, weights: list[np.ndarray]) -> dict:
    import snntorch
    from spikingjelly.activation_based import functional, neuron

    def linears() -> list[nn.Linear]:
        made = [nn.Linear(*w.shape, bias=False) for w in weights]
        for linear, w in zip(made, weights, strict=True):
            linear.weight.data.copy_(torch.from_numpy(w.T))
        return made

    lif = partial(neuron.LIFNode, tau=1 / (1 - DECAY), decay_input=False)
    jelly = nn.Sequential(*(m for linear in linears() for m in (linear, lif()))).eval()
    layers, leaky = linears(), [snntorch.Leaky(beta=DECAY, reset_mechanism="zero") for _ in weights]

    def spikingjelly() -> None:
        with torch.inference_mode():
            functional.reset_net(jelly)
            for t in range(STEPS):
                jelly(frames[t : t + 1])

    def snn_torch() -> None:
        with torch.inference_mode():
            memory = [n.reset_mem() for n in leaky]
            for t in range(STEPS):
                s = frames[t : t + 1]
                for i, linear in enumerate(layers):
                    s, memory[i] = leaky[i](linear(s), memory[i])

    return {"SpikingJelly": spikingjelly, "snnTorch": snn_torch}


def agree(x: np.ndarray, weights: list[np.ndarray]) -> float:
    """The share of spikes that differ from the model's when each step starts from the model's state: ties to within rounding."""
    model, frames = network(weights), torch.from_numpy(x)[:, None]
    program, state, differing = compile(model, [SIZES[0]]), None, 0
    for frame in frames:
        _, ours = program.run(frame[None], state)
        _, state = ranvier.run(model, frame[None], state)
        state = {name: v.detach() for name, v in state.items()}
        differing += sum(int(((ours[name] == 0) != (v == 0)).sum()) for name, v in state.items())
    return differing / (STEPS * sum(SIZES[1:]))


def medians(found: dict) -> dict[str, float]:
    times = interleaved(found, ROUNDS)
    assert not any(t.error for t in times.values()), times
    return {name: 1e3 * t.median / STEPS for name, t in times.items()}  # in microseconds


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    rows = []
    for density, target in TARGETS.items():
        x, weights = workload(density)
        differing = agree(x, weights)
        assert differing < 1e-3, differing
        ms = medians(cases(x, weights))
        ours = ms["ranvier, a call a step"]
        best = min(v for k, v in ms.items() if not k.startswith("ranvier"))
        rows.append(
            {
                "density": density,
                "us a step": ms,
                "times the best other": best / ours,
                "to reach": target,
                "differing": differing,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    curve = []
    _, weights = workload(0.05)
    for density in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0):
        x = (np.random.default_rng(1).random((STEPS, SIZES[0])) < density).astype(np.float32)
        one = [weights[0]]
        live = compile(network(one), [SIZES[0]]).live()
        dense = torch.from_numpy(weights[0].T.copy())

        def by_torch(x: np.ndarray = x, w: torch.Tensor = dense) -> None:
            v = torch.zeros(1, w.shape[0])
            with torch.inference_mode():
                for t in range(STEPS):
                    h = torch.addmm(v, torch.from_numpy(x[t : t + 1]), w.t(), beta=DECAY)
                    v = h * (h < 1)

        ms = medians({"ranvier": partial(live.frames, torch.from_numpy(x)), "torch": by_torch})
        curve.append({"density": density, **ms})
        print(json.dumps(curve[-1]), flush=True)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "seed": SEED, "load": os.getloadavg()}
    Path(sys.argv[1]).write_text(json.dumps({**facts, "rows": rows, "curve": curve, "median of": ROUNDS}, indent=1))


if __name__ == "__main__":
    main()
