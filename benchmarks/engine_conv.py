"""A trained spiking conv net on N-MNIST at batch 1, recording by recording: the engine beside the model, SpikingJelly and snnTorch.

    python benchmarks/engine_conv.py RUN OUT.json [PEERS]    RUN: a finished run of nmnist-small; PEERS: a folder with them

All 100 test recordings; that the engine decides as the model does is asserted before anything is timed, and that the peers do is
reported. Interleaved in one process, medians.
"""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
if len(sys.argv) > 3:
    sys.path.insert(0, sys.argv[3])

import ranvier
from ranvier.deploy.engine.program import compile
from ranvier.lab.bench.timing import interleaved
from ranvier.lab.machine import commit, hardware, versions
from ranvier.lab.saved import load_run
from ranvier.nn.norms.fold_norms import fold_norms
from ranvier.recipes.nmnist_small import nmnist_small

ROUNDS, TARGET = 9, 10.0
Answer = Callable[[torch.Tensor], torch.Tensor]
"""A recording [T, 1, 2, 34, 34] to the scores of the classes [1, 10]."""


def synapses(model: nn.Module) -> tuple[list[nn.Module], list[float], list[float]]:
    """The layers between the neurons with their norms folded, and the neurons' time constants and thresholds."""
    layers, taus, thresholds = [], [], []
    for module in fold_norms(model):
        if isinstance(module, ranvier.LIF):
            taus.append(module.tau.item())
            thresholds.append(module.threshold.item())
        elif isinstance(module, ranvier.Conv2d | ranvier.Linear):
            kind = nn.Conv2d if isinstance(module, ranvier.Conv2d) else nn.Linear
            module.__class__ = kind
            layers.append(module)
    return layers, taus, thresholds


def leaky_mean(current: list[torch.Tensor]) -> torch.Tensor:
    v, total = torch.zeros_like(current[0]), torch.zeros_like(current[0])
    for x in current:
        v = v + (x - v) / 4.0
        total += v
    return total / len(current)


def plain_torch(layers: list[nn.Module], taus: list[float], thresholds: list[float]) -> Answer:
    def answer(x: torch.Tensor) -> torch.Tensor:
        states, found = [0.0] * len(taus), []
        for s in x:
            for i, (tau, threshold) in enumerate(zip(taus, thresholds, strict=True)):
                v = states[i] + (layers[i](s) - states[i]) / tau
                s = (v >= threshold).float()
                states[i] = v * (1 - s)
            found.append(layers[-1](s.flatten(1)))
        return leaky_mean(found)

    return answer


def spikingjelly(layers: list[nn.Module], taus: list[float], thresholds: list[float]) -> Answer:
    from spikingjelly.activation_based import functional, layer, neuron

    made: list[nn.Module] = []
    for synapse, tau, threshold in zip(layers, taus, thresholds, strict=False):
        made += [layer.SeqToANNContainer(synapse), neuron.LIFNode(tau=tau, v_threshold=threshold, step_mode="m")]
    net = nn.Sequential(*made, layer.SeqToANNContainer(nn.Flatten(1), layers[-1])).eval()

    def answer(x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(net)
        return leaky_mean(list(net(x)))

    return answer


def snn_torch(layers: list[nn.Module], taus: list[float], thresholds: list[float]) -> Answer:
    import snntorch

    neurons = [
        snntorch.Leaky(1 - 1 / tau, threshold=t, reset_mechanism="zero")
        for tau, t in zip(taus, thresholds, strict=True)
    ]

    def answer(x: torch.Tensor) -> torch.Tensor:
        memory, found = [n.reset_mem() for n in neurons], []
        for s in x:
            for i, n in enumerate(neurons):
                s, memory[i] = n(layers[i](s) / taus[i], memory[i])
            found.append(layers[-1](s.flatten(1)))
        return leaky_mean(found)

    return answer


def main() -> None:
    torch.set_num_threads(2)
    run = load_run(Path(sys.argv[1]))
    model = run.model.eval()
    test = nmnist_small().data(0).test
    x = torch.from_numpy(np.stack(list(test.x))).float().transpose(0, 1).contiguous()
    program = compile(model, x.shape[2:])
    live = program.live()
    parts = synapses(model)
    singles = [x[:, i : i + 1].contiguous() for i in range(x.shape[1])]
    frames = [s.reshape(len(s), -1) for s in singles]

    def engine() -> None:
        for f in frames:
            live.restart()
            live.frames(f)

    def each(answer: Answer) -> list[int]:
        with torch.inference_mode():
            return [int(answer(s).argmax()) for s in singles]

    answers: dict[str, Answer] = {"ranvier's model": model, "torch, step by step": plain_torch(*parts)}
    if len(sys.argv) > 3:
        answers |= {"SpikingJelly, all steps": spikingjelly(*parts), "snnTorch": snn_torch(*parts)}
    with torch.no_grad():
        decisions = model(x).argmax(1)
        assert torch.equal(program(x).argmax(1), decisions), "the engine decides otherwise"
    same = {name: float(np.mean(np.array(each(a)) == decisions.numpy())) for name, a in answers.items()}
    cases = {"ranvier's engine": engine, **{name: partial(each, a) for name, a in answers.items()}}
    times = interleaved(cases, ROUNDS)
    assert not any(t.error for t in times.values()), times
    us = {name: 1e3 * t.median / len(singles) for name, t in times.items()}
    best = min(v for name, v in us.items() if not name.startswith("ranvier"))
    accuracy = float((decisions.numpy() == test.y).mean())
    facts = {
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
        "load": os.getloadavg(),
        "median of": ROUNDS,
    }
    row = {"us a recording": us, "times the best other": best / us["ranvier's engine"], "to reach": TARGET}
    row |= {"same decisions": same, "accuracy": accuracy, "events": float(x.count_nonzero() / x.numel())}
    print(json.dumps(row, indent=1))
    Path(sys.argv[2]).write_text(json.dumps({**facts, **row}, indent=1))


if __name__ == "__main__":
    main()
