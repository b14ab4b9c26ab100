"""STDP on 784 inputs and 400 neurons, 350 ms of one image in steps of 1 ms: ours beside a sketch in C++, BindsNET and Brian2.

    OMP_NUM_THREADS=2 python benchmarks/stdp.py OUT.json [--sketch KERNELS.cpp] [--brian VENV] [--bindsnet VENV]

The sketch's `stdp_run` is compiled with g++ and runs interleaved with ours in this process. Brian2 (C++ standalone, building not
counted) and BindsNET run in processes of the Python of their own environments, in turn with ours, and report their medians. First
all weights and the number of output spikes are compared: with the reference and the sketch to 1e-5; in Brian2 a
spike arrives after the threshold test and what arrives in the step of a reset is lost, so there the number of spikes has to agree
within 15 %.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import ranvier
from ranvier.lab.bench.timing import interleaved
from ranvier.lab.machine import commit, hardware, versions
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp import stdp_layer, traces
from ranvier.ops.stdp.reference import Neurons
from ranvier.ops.stdp.rule import Rule

SEED, ROUNDS, TURNS = 0, 21, 5
INPUTS, OUTPUTS, STEPS = 784, 400, 350
DECAY, THRESHOLD, FALL = float(np.exp(-1 / 100)), 20.0, float(np.exp(-1 / 20))
RULE = Rule(1e-2, 1e-4, 20.0, 20.0, nearest=True)
TO_REACH = {"Brian2 C++": 10.0, "BindsNET": 30.0}

_BRIAN = """
import json, sys, tempfile, numpy as np, brian2 as b
case = np.load(sys.argv[1])
x, weight = case["x"], case["weight"]
folder = tempfile.mkdtemp()
b.prefs.logging.console_log_level = "ERROR"
b.set_device("cpp_standalone", build_on_run=False, directory=folder)
b.defaultclock.dt = 1 * b.ms
b.prefs.core.default_float_dtype = np.float32
t, i = np.nonzero(x)
source = b.SpikeGeneratorGroup(x.shape[1], i, t * b.ms)
target = b.NeuronGroup(weight.shape[1], "dv/dt = -v / (100*ms) : 1", threshold="v >= 20", reset="v = 0", method="exact")
synapses = b.Synapses(source, target, '''w : 1
    dpre/dt = -pre / (20*ms) : 1 (event-driven)
    dpost/dt = -post / (20*ms) : 1 (event-driven)''',
    on_pre="v_post += w\\npre = 1\\nw = clip(w - 1e-4*post, 0, 1)", on_post="post = 1\\nw = clip(w + 1e-2*pre, 0, 1)")
synapses.connect()
synapses.w = weight.ravel()
seen = b.SpikeMonitor(target, record=False)
net = b.Network(source, target, synapses, seen)
net.run(len(x) * b.ms)
b.device.build(directory=folder, compile=True, run=False)
times = []
for _ in range(int(sys.argv[2])):
    b.device.run()
    times.append(1e3 * b.device._last_run_time)
print(json.dumps({"ms": times, "spikes": int(seen.num_spikes), "version": b.__version__}))
"""
_BINDSNET = """
import json, sys, time, numpy as np, torch
from bindsnet.learning import PostPre
from bindsnet.network import Network
from bindsnet.network.nodes import Input, LIFNodes
from bindsnet.network.topology import Connection
case = np.load(sys.argv[1])
x, weight = torch.from_numpy(case["x"]), torch.from_numpy(case["weight"])
source = Input(n=x.shape[1], traces=True, tc_trace=20.0)
target = LIFNodes(n=weight.shape[1], traces=True, tc_trace=20.0, rest=0.0, reset=0.0, thresh=20.0, refrac=0, tc_decay=100.0)
net = Network(dt=1.0)
net.add_layer(source, "X"), net.add_layer(target, "Y")
rule = Connection(source, target, w=weight.clone(), update_rule=PostPre, nu=(1e-4, 1e-2), wmin=0.0, wmax=1.0)
net.add_connection(rule, "X", "Y")
times = []
for _ in range(int(sys.argv[2]) + 1):
    rule.w.data.copy_(weight)
    net.reset_state_variables()
    begun = time.perf_counter()
    net.run({"X": x[:, None]}, time=len(x))
    times.append(1e3 * (time.perf_counter() - begun))
import bindsnet, importlib.metadata
print(json.dumps({"ms": times[1:], "spikes": None, "version": importlib.metadata.version("bindsnet")}))
"""


def case() -> tuple[np.ndarray, np.ndarray]:
    """Poisson spikes of one image [T, inputs], up to 64 Hz, and weights."""
    draw = np.random.default_rng(SEED)
    image = np.zeros((28, 28))
    image[6:22, 8:20] = draw.random((16, 12)) * 0.9 + 0.1
    x = (draw.random((STEPS, INPUTS)) < image.ravel() * 63.75e-3).astype(np.float32)
    return x, (0.3 * draw.random((INPUTS, OUTPUTS))).astype(np.float32)


def sketch(path: str, x: np.ndarray, weight: np.ndarray, folder: str):
    """`stdp_run` of the sketch as a function without arguments: weights and the number of output spikes."""
    library = str(Path(folder, "sketch.so"))
    flags = [
        "-O3",
        "-march=native",
        "-mprefer-vector-width=512",
        "-ffast-math",
        "-fopenmp",
        "-shared",
        "-fPIC",
        "-std=c++17",
    ]
    subprocess.run(["g++", *flags, path, "-o", library], check=True)
    run = ctypes.CDLL(library).stdp_run

    def address(a: np.ndarray) -> ctypes.c_void_p:
        return a.ctypes.data_as(ctypes.c_void_p)

    def once() -> tuple[np.ndarray, int]:
        learnt = weight.copy()
        room = [np.zeros(n, np.float32) for n in (INPUTS, OUTPUTS, OUTPUTS, OUTPUTS)]
        numbers = [ctypes.c_float(n) for n in (DECAY, THRESHOLD, FALL, FALL, RULE.a_minus, RULE.a_plus)]
        return learnt, run(address(x), STEPS, INPUTS, OUTPUTS, address(learnt), *map(address, room), *numbers)

    return once


def elsewhere(python: Path, program: str, file: Path) -> dict:
    done = subprocess.run(
        [str(python), "-c", program, str(file), str(TURNS)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    for name in ("sketch", "brian", "bindsnet"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    x, weight = case()
    rows = torch.from_numpy(weight)[None]
    state = {k: torch.zeros(1, OUTPUTS) for k in ("v", "z", "theta")} | traces(RULE, rows) | {"weight": rows}
    dense, neurons = torch.from_numpy(x)[:, None], Neurons(DECAY, THRESHOLD)
    events = Spikes.from_dense(dense)
    cases = {
        "ours, from events": lambda: stdp_layer(events, neurons, RULE, state),
        "ours, from a dense tensor": lambda: stdp_layer(dense, neurons, RULE, state),
    }
    z, after = cases["ours, from events"]()
    with ranvier.backend("reference"):
        expected, truth = cases["ours, from events"]()
    parity = {"reference": float((after["weight"] - truth["weight"]).abs().max())}
    assert torch.equal(z, expected) and parity["reference"] < 1e-5, parity
    found: dict[str, object] = {"input spikes": int(x.sum()), "output spikes": int(z.sum())}
    with tempfile.TemporaryDirectory() as folder:
        if given.sketch:
            cases["C++ sketch"] = sketch(given.sketch, x, weight, folder)
            learnt, spikes = cases["C++ sketch"]()
            parity["C++ sketch"] = float(np.abs(learnt - after["weight"][0].numpy()).max())
            assert spikes == int(z.sum()) and parity["C++ sketch"] < 1e-5, (spikes, parity)
        file = Path(folder, "case.npz")
        np.savez(file, x=x, weight=weight)
        others = {
            name: elsewhere(Path(venv, "bin", "python"), program, file)
            for name, venv, program in (
                ("Brian2 C++", given.brian, _BRIAN),
                ("BindsNET", given.bindsnet, _BINDSNET),
            )
            if venv
        }
        times = interleaved(cases, ROUNDS)
    assert not any(t.error for t in times.values()), times
    ms = {name: t.median for name, t in times.items()}
    for name, other in others.items():
        if "ms" in other:
            ms[name] = median(other["ms"])
        if other.get("spikes"):
            assert abs(other["spikes"] / int(z.sum()) - 1) < 0.15, (name, other["spikes"])
    ours = ms["ours, from events"]
    ratios = {name: t / ours for name, t in ms.items()}
    facts = {"seed": SEED, "rounds": ROUNDS, "hardware": hardware(), "versions": versions(), "commit": commit()}
    result = {
        **facts,
        **found,
        "parity": parity,
        "ms": ms,
        "this / ours": ratios,
        "to reach": TO_REACH,
        "others": others,
    }
    Path(given.out).write_text(json.dumps(result, indent=1) + "\n")
    for name, t in ms.items():
        print(f"{name:28s} {t:8.2f} ms  x {ratios[name]:6.1f}")


if __name__ == "__main__":
    main()
