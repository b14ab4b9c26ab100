"""A network at work: its arrays, the tables of addresses that the kernels read, and runs from state to state."""

import ctypes
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.compile import cpu
from ranvier.compile.advance import address, prepared
from ranvier.compile.llvm_operations import LANES
from ranvier.compile.symbol import RANDOM
from ranvier.core.random import fresh_seeds
from ranvier.deploy.populations import delivery
from ranvier.deploy.populations.parts import Parts, Population, Spikes
from ranvier.deploy.populations.poisson import guide, thresholds
from ranvier.deploy.populations.ranks import Alone, Ranks, gathered
from ranvier.deploy.populations.wiring import Wiring, wire
from ranvier.ops.native import tabled

BLOCK = 1 << 15
"""Neurons of a block at most: their states stay in a core's second cache while they are advanced for a window."""
LEAST = 1024
"""Neurons of a block at least, where blocks are shared out among threads: each block looks up every spike."""
LONGEST = 64
"""Steps of a window at most."""
SMALL = 100_000
"""Neuron steps of a window below which waking a second thread costs more than it saves."""
POISSON = 1 << 31
"""Streams of random numbers from here on are those of inputs."""


_until = np.zeros(1, np.int64)
"""Until when this process's threads are not called together, after they have lost time by it; ns."""


def run(
    network: Parts, steps: int, state: Mapping[str, Tensor], processes: bool
) -> tuple[dict[str, Spikes], dict[str, Tensor]]:
    """Recorded spikes and the state after `steps` steps."""
    ranks = Ranks() if processes else Alone()
    threads = _threads(network)
    block = _block(network, threads)
    key = ranks.number, ranks.size, block
    wiring = network.ready.get(key)
    if not isinstance(wiring, Wiring):
        ranges = {k: ranks.share(p.size) for k, p in network.populations.items()}
        wiring = network.ready[key] = wire(network, ranges, block)
    work = _Work(network, wiring, state, steps)
    first = int(state["step"])
    if isinstance(ranks, Ranks):
        work.run_together(ranks)
    else:
        work.run(threads)
    return work.results(ranks, first)


def _block(network: Parts, threads: int) -> int:
    """Neurons of a block: whole vectors, one block for each thread, since every block looks up every spike."""
    neurons = sum(p.size for p in network.populations.values())
    portion = -(-neurons // (threads * LANES)) * LANES if threads > 1 else BLOCK
    return min(max(portion, LEAST), BLOCK)


def _threads(network: Parts) -> int:
    """How many threads may pay: one where a window is over before another is awake."""
    delays = [int(torch.as_tensor(p.delay).min()) for p in network.projections if torch.as_tensor(p.delay).numel()]
    work = sum(p.size for p in network.populations.values()) * min([*delays, LONGEST])
    return torch.get_num_threads() if work >= SMALL else 1


def seeds(network: Parts, state: Mapping[str, Tensor], number: int) -> int:
    """The seed of the random numbers that belong to the population, or input, of this number."""
    return int(fresh_seeds(number + 1, torch.device("cpu"), int(state["seed"]))[number])


def parameters(population: Population, seed: int, low: int, high: int) -> dict[str, np.ndarray]:
    """What the kernel of a population's neuron is given, for some of its neurons."""
    neuron = population.neuron
    found = {}
    for name, value in zip(neuron.declared, neuron._values(), strict=True):
        flat = value.detach().to("cpu", torch.float32).numpy().reshape(-1)
        found[name] = flat if len(flat) == 1 else flat[low:high]
    words = np.arange(low, high), [seed & 0xFFFFFFFF], [seed >> 32], [0]
    return found | {k: np.asarray(w).astype(np.uint32).view(np.float32) for k, w in zip(RANDOM, words, strict=True)}


def _kernel(
    network: Parts, name: str, given: dict[str, np.ndarray], places: tuple[int, int]
) -> tuple[Any, list[np.ndarray]]:
    """The kernel of a population's neuron, made once as long as the neuron and its parameters stay the same."""
    neuron = network.populations[name].neuron
    key = name, neuron._equation, places
    kept: Any = network.ready.get(key)
    program = neuron._program(()) if kept is None else kept[0]
    words = [given[k].tobytes() for k in program.parameters]
    if kept is None or kept[1] != words:
        kept = program, words, *prepared(program, {k: given[k] for k in program.parameters}, places[1] - places[0])
        network.ready[key] = kept
    return kept[2], kept[3]


@dataclass(eq=False)
class _Record:
    """What a population has fired: step number u has index[offsets[u] : offsets[u + 1]]; the first `past` are of an earlier run."""

    offsets: np.ndarray
    index: np.ndarray


@dataclass(eq=False)
class _Work:
    network: Parts
    wiring: Wiring
    state: Mapping[str, Tensor]
    steps: int
    alive: list[Any] = field(default_factory=list)
    """Arrays whose addresses stand in tables."""

    def __post_init__(self) -> None:
        names = list(self.network.populations)
        self.past = max(self.wiring.longest.values())
        self.window = min(self.wiring.shortest, LONGEST)
        self.records = {k: self._record(k) for k in names}
        self.states = {k: self._local(k) for k in names}
        bundles = [self._bundle(b, names) for k in names for b in self.wiring.bundles[k]]
        inputs = [self._input(number) for k in names for number in self._inputs(k)]
        blocks: list[list[int]] = []
        self.populations = np.zeros((len(names), 5), np.int64)
        first = second = 0
        for number, name in enumerate(names):
            own, theirs = len(self.wiring.bundles[name]), len(self._inputs(name))
            made = self._blocks(number, name, (first, first + own), (second, second + theirs))
            self.populations[number, delivery.BLOCK :] = len(blocks), len(blocks) + len(made)
            blocks += made
            first, second = first + own, second + theirs
        self.blocks = np.array(blocks, np.int64).reshape(-1, 15)
        self.tables = np.array(bundles, np.int64).reshape(-1, 9), np.array(inputs, np.int64).reshape(-1, 8)
        self.control = np.zeros(11, np.int64)
        self.control[: delivery.DONE + 1] = int(self.state["step"]), self.past, 0, 0
        self.table = tabled([self.blocks, *self.tables, self.populations, self.control])
        self._point()

    def run(self, threads: int) -> None:
        """All steps, in one native call for as long as the records have room."""
        threads = min(threads, len(self.blocks))
        team = cpu.team() if threads > 1 else None
        if team is not None:
            take, parallel = team
            kernel, blocks = delivery.window.code(), len(self.blocks)
            job = self._kept(np.array([address(kernel), self.table.ctypes.data, blocks, 1, 0], np.int64))
            clock = ctypes.CDLL(None).clock_gettime
            called = threads, address(take), address(parallel), job.ctypes.data
            self.control[delivery.THREADS :] = *called, address(clock), time.CLOCK_MONOTONIC, _until.ctypes.data
        while True:
            delivery.simulate.code()(self.table.ctypes.data, self.window, self.steps)
            if self.control[delivery.DONE] == self.steps:
                return
            self._room()

    def run_together(self, ranks: Ranks) -> None:
        """A window at a time, after which the processes tell each other what they have fired."""
        control, done = self.control, 0
        kernel = delivery.window.code()
        while done < self.steps:
            control[delivery.WINDOW] = window = min(self.window, self.steps - done)
            cpu.share(
                kernel, self.table.ctypes.data, len(self.blocks), window * int(self.blocks[:, delivery.HIGH].sum())
            )
            for record, (counts, index) in zip(
                self.records.values(), ranks.exchanged(self._fired(window)), strict=True
            ):
                at = control[delivery.AT]
                ends = record.offsets[at] + np.cumsum(counts)
                if ends[-1] > len(record.index):
                    record.index = np.resize(record.index, 2 * int(ends[-1]))
                    self._point()
                record.index[record.offsets[at] : ends[-1]] = index
                record.offsets[at + 1 : at + 1 + window] = ends
            control[[delivery.STEP, delivery.AT]] += window
            done += window

    def results(self, ranks: Ranks | Alone, first: int) -> tuple[dict[str, Spikes], dict[str, Tensor]]:
        """What was recorded, and the state at the end."""
        spikes, after = {}, {"step": torch.tensor(first + self.steps), "seed": self.state["seed"]}
        for name, population in self.network.populations.items():
            for k, local in self.states[name].items():
                after[f"{name}.{k}"] = gathered(ranks, torch.from_numpy(local), population.size)
            offsets, index = self.records[name].offsets, self.records[name].index
            t = np.repeat(np.arange(-self.past, self.steps), np.diff(offsets)) + first
            kept = max(self.wiring.longest[name], 0)
            last = slice(offsets[self.past + self.steps - kept], offsets[-1])
            new = slice(offsets[self.past], offsets[-1])
            after[f"{name}.past_t"] = torch.from_numpy(t[last].copy())
            after[f"{name}.past_index"] = torch.from_numpy(index[last].copy())
            spikes[name] = Spikes(
                torch.from_numpy(t[new]), torch.from_numpy(index[new].copy()), population.size, self.steps, first
            )
        return spikes, {k: after[k] for k in self.state}

    def _record(self, name: str) -> _Record:
        t, index = (self.state[f"{name}.past_{k}"].numpy() for k in ("t", "index"))
        ago = t - int(self.state["step"])
        here = ago >= -self.past
        offsets = np.zeros(self.past + self.steps + 1, np.int64)
        counts = np.bincount(ago[here] + self.past, minlength=self.past)
        offsets[1 : self.past + 1] = np.cumsum(counts)
        offsets[self.past + 1 :] = offsets[self.past]
        found = np.zeros(int(here.sum()) + 2 * self.network.populations[name].size * self.window + 1024, np.int32)
        found[: int(here.sum())] = index[here]
        return _Record(offsets, found)

    def _local(self, name: str) -> dict[str, np.ndarray]:
        low, high = self.wiring.ranges[name]
        states = self.network.populations[name].neuron.states
        return {k: self._kept(self.state[f"{name}.{k}"][low:high].detach().numpy().copy()) for k in states}

    def _bundle(self, bundle: Any, names: list[str]) -> list[int]:
        onto = self.states[bundle.target][bundle.onto]
        each = len(bundle.weights) != 1 or len(bundle.targets) == 1
        sources = bundle.starts.shape[1] - 1
        places = [a.ctypes.data for a in (onto, bundle.weights)]
        lists = [a.ctypes.data for a in (bundle.targets, bundle.bases)]
        return [names.index(bundle.source), bundle.delay, *places, each, bundle.starts.ctypes.data, sources, *lists]

    def _inputs(self, name: str) -> list[int]:
        return [i for i, given in enumerate(self.network.inputs) if given.target == name]

    def _input(self, number: int) -> list[int]:
        given = self.network.inputs[number]
        limits = self._kept(thresholds(given.rate))
        amounts = self._kept(np.float32(given.weight) * np.arange(len(limits), dtype=np.float32))
        start = self._kept(guide(limits))
        onto, seed = self.states[given.target][given.onto], seeds(self.network, self.state, number)
        places = [a.ctypes.data for a in (onto, amounts, limits, start)]
        return [*places, seed & 0xFFFFFFFF, seed >> 32, POISSON, 0]

    def _blocks(self, number: int, name: str, bundles: tuple[int, int], inputs: tuple[int, int]) -> list[list[int]]:
        """Every block has a table of its own, since each lists by itself who fires."""
        population, (low, high) = self.network.populations[name], self.wiring.ranges[name]
        size = high - low
        if size == 0:
            return []
        given = parameters(population, seeds(self.network, self.state, number), low, high)
        call, fixed = _kernel(self.network, name, given, (low, high))
        current = torch.as_tensor(population.current, dtype=torch.float32).detach().numpy()
        x = self._kept(np.broadcast_to(current if current.ndim == 0 else current[low:high], size).copy())
        y, states = self._kept(np.zeros(size, np.float32)), list(self.states[name].values())
        self.alive += [call, *fixed]
        made = []
        bounds = self.wiring.bounds[name].tolist()
        for place, (start, end) in enumerate(pairwise(bounds)):
            fired = self._kept(np.empty((end - start) * self.window + LANES, np.int32))
            count = self._kept(np.zeros(self.window + 2, np.int64))
            draws = self._kept(np.empty(4 * (end - start) * max(inputs[1] - inputs[0], 1), np.uint32))
            pointers = [a.ctypes.data for a in (fired, count, x, *states, *fixed, y, *states)]
            table = self._kept(np.array([size, 0, *pointers], np.int64))
            lists = [fired.ctypes.data, count.ctypes.data, count[1:].ctypes.data, draws.ctypes.data]
            here = [address(call), table.ctypes.data, number, place, start, end, low + start]
            made.append([*here, *bundles, *inputs, *lists])
        return made

    def _fired(self, window: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each population: how many of its neurons here fired at each step, and which."""
        found = []
        for number, (low, _) in enumerate(self.wiring.ranges.values()):
            counts = np.zeros(window, np.int32)
            lists: list[list[np.ndarray]] = [[] for _ in range(window)]
            for block in self.blocks[self.blocks[:, delivery.POPULATION] == number]:
                steps = _at(block[delivery.STEPS], window + 1, ctypes.c_int64)
                fired = _at(block[delivery.LIST], int(steps[-1]), ctypes.c_int32)
                counts += np.diff(steps).astype(np.int32)
                for s in range(window):
                    lists[s].append(fired[steps[s] : steps[s + 1]])
            every = [a for some in lists for a in some]
            found.append((counts, np.concatenate([np.zeros(0, np.int32), *every]) + np.int32(low)))
        return found

    def _room(self) -> None:
        """More room for who fires."""
        for record in self.records.values():
            record.index = np.concatenate([record.index, np.empty_like(record.index)])
        self._point()

    def _point(self) -> None:
        """Tell the kernels where the records lie."""
        for number, record in enumerate(self.records.values()):
            self.populations[number, : delivery.CAPACITY + 1] = (
                record.offsets.ctypes.data,
                record.index.ctypes.data,
                len(record.index),
            )

    def _kept(self, array: np.ndarray) -> np.ndarray:
        self.alive.append(array)
        return array


def _at(place: int, size: int, kind: Any) -> np.ndarray:
    return np.ctypeslib.as_array((kind * size).from_address(int(place))) if size else np.zeros(0, kind)
