"""The CUBA network of Vogels and Abbott on ranvier's engine beside Brian2 (C++ standalone) and loops in Numba: 1 s in steps of 0.1 ms.

    python benchmarks/cuba.py OUT.json [--brian PYTHON] [--sketch FOLDER] [--neurons 4000 20000] [--rounds 7]

Every neuron gets 64 excitatory and 16 inhibitory synapses with a delay of 1.5 ms; all simulate the same synapses from the same
membranes, in float32. PYTHON is the interpreter of an environment with brian2; FOLDER holds numba_kernels.py with `cuba_run`. Each
round runs every case once, in a process of its own, in an order that turns round. Rates and the variation of intervals must agree
before a time counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

ROOT = Path(__file__).parents[1]
SEED, DT, DELAY, STEPS, EXCITATORY, INHIBITORY = 0, 0.1, 15, 10_000, 64, 16
TARGETS = {"Brian2 C++, 1 thread": 3.0, "sketch": 1 / 1.2}
"""How many times as long as ours others must take at least."""


def wiring(neurons: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random, e = np.random.default_rng(SEED), neurons * 4 // 5
    excitatory, inhibitory = (
        random.integers(0, e, (neurons, EXCITATORY)),
        random.integers(e, neurons, (neurons, INHIBITORY)),
    )
    return excitatory, inhibitory, (-60 + 10 * random.random(neurons)).astype(np.float32)


def said(t: np.ndarray, index: np.ndarray, neurons: int, seconds: float) -> dict[str, object]:
    """Rate and variation of intervals, with what the simulation took."""
    order = np.lexsort((t, index))
    index, t = index[order], t[order]
    interval, of = np.diff(t)[np.diff(index) == 0].astype(float), index[1:][np.diff(index) == 0]
    number, total, squares = (np.bincount(of, w, neurons) for w in (None, interval, interval**2))
    many = number >= 3
    mean = total[many] / number[many]
    variation = np.sqrt(np.maximum(squares[many] / number[many] - mean**2, 0)) / mean
    return {"s": seconds, "rate": len(t) / neurons / (STEPS * DT * 1e-3), "CV": float(variation.mean())}


def ours(neurons: int, threads: int) -> dict[str, object]:
    sys.path.insert(0, str(ROOT))
    import torch

    from ranvier.deploy.populations.connections import Pairs
    from ranvier.deploy.populations.network import Network, Population, Projection
    from ranvier.nn.neurons.ei_current_lif import EICurrentLIF

    torch.set_num_threads(threads)
    neuron = EICurrentLIF(tau=20.0, tau_e=5.0, tau_i=10.0, refractory=5.0, v_rest=-49.0, dt=DT, discretisation="exact")
    excitatory, inhibitory, v = wiring(neurons)
    projections = [
        Projection(
            "all", "all", Pairs(source.ravel(), np.repeat(np.arange(neurons), source.shape[1])), onto, weight, DELAY
        )
        for source, onto, weight in ((excitatory, "g_e", 1.62), (inhibitory, "g_i", -9.0))
    ]
    network = Network({"all": Population(neuron, neurons)}, projections)
    state = network.rest()
    state["all.v"] = torch.from_numpy(v)
    network.run(8 * DELAY, state)
    began = perf_counter()
    spikes = network.run(STEPS, state)[0]["all"]
    return said(spikes.t.numpy(), spikes.index.numpy(), neurons, perf_counter() - began)


def sketch(neurons: int, folder: str) -> dict[str, object]:
    """Its ring of spikes is all that it records, so it has no intervals."""
    sys.path.insert(0, folder)
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
    from numba_kernels import cuba_run

    excitatory, inhibitory, v = wiring(neurons)
    source = np.concatenate([excitatory, inhibitory], 1).ravel()
    target = np.repeat(np.arange(neurons), EXCITATORY + INHIBITORY)
    pointer = np.concatenate([[0], np.bincount(source, minlength=neurons).cumsum()])
    targets = target[np.argsort(source, kind="stable")].astype(np.int32)
    a, e, i = (np.exp(-DT / tau) for tau in (20.0, 5.0, 10.0))
    numbers = (a, e, i, 5 / (5 - 20) * (e - a), 10 / (10 - 20) * (i - a), -49.0, -50.0, -60.0)
    state = [v, np.zeros(neurons, np.float32), np.zeros(neurons, np.float32), np.zeros(neurons, np.int16)]
    ring = np.zeros((DELAY, neurons), np.int32), np.zeros(DELAY, np.int32)

    def run(steps: int) -> int:
        weights = np.float32(1.62), np.float32(-9.0)
        constants = map(np.float32, numbers)
        return cuba_run(
            steps, neurons, neurons * 4 // 5, pointer, targets, *weights, DELAY, *state, *ring, *constants, 50
        )

    run(8 * DELAY)
    began = perf_counter()
    spikes = run(STEPS // DELAY * DELAY)
    seconds = (perf_counter() - began) * STEPS / (STEPS // DELAY * DELAY)
    return {"s": seconds, "rate": spikes / neurons / (STEPS * DT * 1e-3)}


def brian(neurons: int, rounds: int) -> dict[str, object]:
    """One build, run `rounds` times by whoever asks: the first line is where, the others what each run found."""
    import brian2 as b

    folder = tempfile.mkdtemp(prefix="brian_")
    b.prefs.logging.console_log_level = "ERROR"
    b.set_device("cpp_standalone", build_on_run=False, directory=folder)
    b.prefs.devices.cpp_standalone.openmp_threads = 0
    b.prefs.core.default_float_dtype = np.float32
    b.defaultclock.dt = DT * b.ms
    equations = """dv/dt = (ge + gi - (v + 49*mV)) / (20*ms) : volt (unless refractory)
        dge/dt = -ge / (5*ms) : volt
        dgi/dt = -gi / (10*ms) : volt"""
    options = {"threshold": "v > -50*mV", "reset": "v = -60*mV", "refractory": 5 * b.ms, "method": "exact"}
    group = b.NeuronGroup(neurons, equations, **options)
    excitatory, inhibitory, v = wiring(neurons)
    group.v = v * b.mV
    parts: list[object] = [group]
    for source, change in ((excitatory, "ge += 1.62*mV"), (inhibitory, "gi += -9*mV")):
        synapses = b.Synapses(group, group, on_pre=change, delay=DELAY * DT * b.ms)
        synapses.connect(i=source.ravel(), j=np.repeat(np.arange(neurons), source.shape[1]))
        parts.append(synapses)
    monitor = b.SpikeMonitor(group)
    network = b.Network(*parts, monitor)
    network.run(STEPS * DT * b.ms)
    began = perf_counter()
    b.device.build(directory=folder, compile=True, run=False, debug=False)
    build = perf_counter() - began
    found = []
    for _ in range(rounds):
        print("ready", flush=True)
        input()
        b.device.run()
        t, index = np.round(np.asarray(monitor.t) / (DT * 1e-3)).astype(int), np.asarray(monitor.i)
        found.append(said(t, index, neurons, b.device._last_run_time) | {"build s": build})
        print(json.dumps(found[-1]), flush=True)
    return found[-1]


def measured(neurons: int, rounds: int, python: str | None, folder: str | None) -> dict[str, object]:
    me = [sys.executable, __file__]
    cases = {f"ranvier, {n} thread{'s' * (n > 1)}": [*me, "ours", str(neurons), str(n)] for n in (1, 2)}
    if folder:
        cases["sketch"] = [*me, "sketch", str(neurons), folder]
    other = None
    if python:
        command = [python, __file__, "brian", str(neurons), str(rounds)]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[dict]] = {name: [] for name in (*cases, *(["Brian2 C++, 1 thread"] if other else []))}
    for turn in range(rounds):
        for name in list(found)[:: -1 if turn % 2 else 1]:
            if name in cases:
                threads = (
                    {"OMP_NUM_THREADS": name.split()[1]} if name.startswith("ranvier") else {"OMP_NUM_THREADS": "1"}
                )
                environment = {**os.environ, **threads}
                done = subprocess.run(cases[name], capture_output=True, text=True, check=True, env=environment)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
                continue
            assert other is not None and other.stdin is not None and other.stdout is not None
            while other.stdout.readline().strip() != "ready":
                assert other.poll() is None, "Brian2 has ended"
            other.stdin.write("\n")
            other.stdin.flush()
            while not (line := other.stdout.readline()).startswith("{"):
                assert line, "Brian2 has ended"
            found[name].append(json.loads(line))
    agree(found)
    seconds = {name: median(row["s"] for row in rows) for name, rows in found.items()}
    base = seconds["ranvier, 1 thread"]
    return {
        "neurons": neurons,
        "s": seconds,
        "x ranvier, 1 thread": {name: s / base for name, s in seconds.items()},
        "to reach": {name: TARGETS[name] for name in seconds if name in TARGETS},
        "rounds": found,
    }


def agree(found: dict[str, list[dict]]) -> None:
    """All rates within 3 %, and the variations of intervals within 0.05."""
    for what, close in (("rate", lambda a, b: abs(a - b) < 0.03 * b), ("CV", lambda a, b: abs(a - b) < 0.05)):
        values = [row[what] for rows in found.values() for row in rows if what in row]
        assert all(close(a, values[0]) for a in values), (what, values)


def main() -> None:
    if sys.argv[1] in ("ours", "sketch", "brian"):
        case, neurons, argument = sys.argv[1:]
        result = {"ours": ours, "sketch": sketch, "brian": brian}[case](
            int(neurons), argument if case == "sketch" else int(argument)
        )
        print(json.dumps(result))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--brian")
    parser.add_argument("--sketch")
    parser.add_argument("--neurons", type=int, nargs="+", default=[4000, 20_000])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from ranvier.lab.machine import commit, hardware, versions

    before = os.getloadavg()[0]
    rows = []
    for neurons in given.neurons:
        rows.append(measured(neurons, given.rounds, given.brian, given.sketch))
        print({k: v for k, v in rows[-1].items() if k != "rounds"}, flush=True)
    facts = {"commit": commit(), "hardware": hardware(), "versions": versions(), "seed": SEED, "load before": before}
    given.out.write_text(json.dumps({**facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
