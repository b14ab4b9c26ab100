"""`ranvier bench neuron`: forward and forward + backward of one neuron, ours beside other packages."""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ranvier.core.checks import Refusal, nearest
from ranvier.core.discovery import find
from ranvier.lab.bench.alone import alone
from ranvier.lab.bench.contender import OURS, Contender, chosen, contenders, shown
from ranvier.lab.bench.memory import kept, peak
from ranvier.lab.bench.parity import Parity, compare, ties
from ranvier.lab.bench.peers import PEERS, Spelling
from ranvier.lab.bench.timing import Load, Times, gpu, interleaved, ratio, wall
from ranvier.lab.bench.workload import DTYPES, SEED, Work, driven, nbytes, strength
from ranvier.lab.machine import commit, hardware, versions

SHAPES = {"cpu": (100, 64, 1024), "cuda": (16, 32, 64, 32, 32)}
PASSES = {"forward": 2, "both": 5}
"""Passes over the tensor that no implementation can do without: x and z; and x, the gradients of z and of x."""


def bench_neuron(
    name: str,
    shape: Sequence[int] | None = None,
    dtype: str = "float32",
    device: str | None = None,
    rounds: int = 9,
    peers: Sequence[str] | None = None,
    memory: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Everything measured, ready for JSON.

    Raises: Refusal for an unknown neuron, peer or dtype, and for a shape that is none.
    """
    found = find("neuron", name, "ranvier.nn.neurons", base="neuron")
    names = chosen(peers)
    if dtype not in DTYPES:
        raise Refusal("--dtype", expected="a floating-point type", got=repr(dtype), do=nearest(dtype, DTYPES))
    where = _device(device)
    size = tuple(shape or SHAPES[where.type])
    if len(size) < 3 or min(size) < 1:
        raise Refusal(
            "--shape", expected="T,B,F..., each at least 1", got=str(size), do="Write for instance 100,64,512."
        )
    load = Load()
    facts: dict[str, Any] = {
        "benchmark": "neuron",
        "neuron": name,
        "summary": found.summary,
        "shape": list(size),
        "dtype": dtype,
        "device": where.type,
        "rounds": rounds,
        "seed": SEED,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions() | _more_versions(),
        "hardware": hardware(),
    }
    facts["gain"], facts["rate"] = strength(found.load(), size[0])
    work = driven(size, DTYPES[dtype], where, facts["gain"])
    entrants, left_out = contenders(name, size[0], where, names)
    facts["left out"] = [asdict(one) for one in left_out]
    built: dict[str, Spelling] = {}
    rows: dict[str, dict[str, Any]] = {}
    for one in entrants:
        say(f"the same spikes: {one.name}")
        rows[one.name] = {
            "who": one.who,
            "mode": one.mode,
            "settings": one.words,
            "ours": shown(one.options) or "defaults",
            "twin": _twin(one),
        }
        rows[one.name] |= _checked(one, entrants, work, built)
    facts["rows"] = list(rows.values())
    alive = [one for one in entrants if one.name in built]
    facts["copy"] = {}
    for what in PASSES:
        say(f"times: {what}")
        _time(what, alive, built, work, rounds, rows, facts["copy"])
    if memory:
        for one in alive:
            say(f"memory: {one.name}")
            rows[one.name] |= _memory(one, built[one.name], work, facts, names)
        facts["first call"] = _first_calls(facts, say)
    facts["fastest"] = _fastest(facts["rows"])
    facts["load"] = load.facts()
    return facts


def _checked(one: Contender, entrants: list[Contender], work: Work, built: dict[str, Spelling]) -> dict[str, Any]:
    """Build a contender and compare its output and gradient with ours at the options that match it."""
    base = next(c for c in entrants if c.name == _twin(one))
    ours = built.get(base.name) or base.build()
    try:
        spelling = one.build()
        start = perf_counter()
        torch.manual_seed(SEED)
        result = work.compared(spelling, spelling.delay)
        if work.x.is_cuda:
            torch.cuda.synchronize()
        first = perf_counter() - start
        parity = _parity(ours, result, spelling.delay, work)
        keeps = kept(lambda: work.training(spelling)) / nbytes(work.x)
    except Exception as error:  # another package's failure is a result here
        return {"error": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"}
    built[one.name] = spelling
    return {"parity": parity.facts(), "kept": keeps, "first, s": first}


def _parity(ours: Spelling, other: tuple[Tensor, Tensor], delay: int, work: Work) -> Parity:
    def output(x: Tensor) -> Tensor:
        torch.manual_seed(SEED)
        return ours.function(x)

    torch.manual_seed(SEED)
    return compare(work.compared(ours, delay), other, ties(output, work.x))


def _time(
    what: str,
    alive: list[Contender],
    built: dict[str, Spelling],
    work: Work,
    rounds: int,
    rows: dict[str, dict[str, Any]],
    copy: dict[str, float],
) -> None:
    cuda = work.x.is_cuda
    cases: dict[str, Callable[[], object]] = {}
    for one in alive:
        graphed = one.mode == "CUDA graph"
        # a graph needs an input of its own: peers keep graphs through a shared one, which belong to another stream
        own = Work(work.x, work.g) if graphed else work
        step = partial(own.forward if what == "forward" else own.both, built[one.name])
        cases[one.name] = _Graphed(step) if graphed else step
    source = torch.ones((1 << 30 if cuda else 1 << 27) // 4, device=work.x.device)
    target = torch.empty_like(source)
    cases["copy"] = lambda: target.copy_(source)
    found = interleaved(cases, rounds, gpu if cuda else wall)
    moved = found.pop("copy")
    speed = 2 * nbytes(source) / (moved.median / 1e3)
    limit = 1e3 * PASSES[what] * nbytes(work.x) / speed
    copy |= {"GB/s": speed / 1e9, f"{what}: {PASSES[what]} passes, ms": limit}
    for name, times in found.items():
        if times.error:
            rows[name]["error"] = times.error
            continue
        rows[name][what] = {"median": times.median, "min": times.least, "of limit": times.median / limit}
        twin = found[_same_mode(rows[name], found)]
        if rows[name]["parity"]["holds"] and not twin.error:
            best = _fastest_of_ours(rows, rows[name]["ours"], found)
            rows[name][what] |= {"ratio": ratio(times, twin), "ratio to fastest": ratio(times, best)}


def _fastest_of_ours(rows: dict[str, dict[str, Any]], options: str, found: dict[str, Times]) -> Times:
    ours = [found[k] for k, row in rows.items() if row["who"] == OURS and row["ours"] == options and k in found]
    return min((times for times in ours if not times.error), key=lambda times: times.median)


def _fastest(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each peer's fastest way through both passes against the fastest of ours with the same options."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        times = row.get("both", {}).get("ratio to fastest", math.inf)
        if row["who"] != OURS and times < found.get(row["who"], {"ratio": math.inf})["ratio"]:
            found[row["who"]] = {"as": row["mode"], "ratio": times}
    return found


class _Graphed:
    """A step captured as a CUDA graph at its first call."""

    def __init__(self, step: Callable[[], object]) -> None:
        self.step = step
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.graph is None:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    self.step()
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.kept = self.step()
        self.graph.replay()


def _memory(
    one: Contender, spelling: Spelling, work: Work, facts: dict[str, Any], peers: Sequence[str]
) -> dict[str, float]:
    if one.mode == "CUDA graph":  # it holds its memory for good
        return {}
    grown: float | None
    if work.x.is_cuda:
        grown = peak(lambda: work.both(spelling), work.x.device)
    else:
        needed = [one.who] if one.who != OURS else peers if one.options else []
        grown = alone({"what": "peak", "contender": one.name, "peers": needed}, facts).get("bytes")
    return {} if grown is None else {"peak": grown / nbytes(work.x), "peak MiB": grown / 2**20}


def _first_calls(facts: dict[str, Any], say: Callable[[str], None]) -> dict[str, float]:
    """Seconds of our first forward and backward pass in a new process: with no kernel kept, and with those kept."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for what in ("cold", "cached"):
            say(f"first call: {what}")
            result = alone({"what": "first", "contender": f"{OURS}, eager", "peers": []}, facts, folder)
            if "seconds" in result:
                found[f"{what}, s"] = result["seconds"]
    return found


def _twin(one: Contender) -> str:
    """The name of ours, eager, that computes the same."""
    return Contender(OURS, "eager", "", one.build, one.options).name


def _same_mode(row: dict[str, Any], found: dict[str, Times]) -> str:
    twin: str = row["twin"]
    same = twin.replace("eager", row["mode"], 1)
    return same if same in found else twin


def _device(name: str | None) -> torch.device:
    known = ("cpu", "cuda")
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in known:
        raise Refusal("--device", expected="cpu or cuda", got=repr(name), do=nearest(name, known))
    if name == "cuda" and not torch.cuda.is_available():
        raise Refusal("--device", expected="a CUDA GPU", got="none here", do="Leave the option out, or choose cpu.")
    return torch.device(name)


def _more_versions() -> dict[str, str]:
    found = {}
    for package in (*PEERS, "triton", "llvmlite"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def filename(facts: dict[str, Any]) -> str:
    """What the result is kept under."""
    shape = "x".join(map(str, facts["shape"]))
    return f"neuron_{facts['neuron']}_{facts['device']}_{shape}_{facts['dtype']}.json"
