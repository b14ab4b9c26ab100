"""All ways in which one neuron is computed in a comparison, each built when it is needed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal, nearest
from ranvier.core.discovery import find
from ranvier.core.random import Draws
from ranvier.core.state import state_dtype
from ranvier.lab.bench.peers import INSTALL, PEERS, Spelling
from ranvier.nn.neurons.neuron import Neuron, reference

OURS, COMPILED = "ranvier", "torch.compile"
LOOPS = {"loop": "our step in an eager loop", "compile": "torch.compile of that loop"}
LONGEST = 256
"""Steps up to which a loop is compiled: it is unrolled, so that compiling takes seconds a step."""


@dataclass(frozen=True)
class Contender:
    """One way to compute a neuron over a sequence."""

    who: str
    mode: str
    words: str
    build: Callable[[], Spelling]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of our neuron that it is compared with."""

    @property
    def name(self) -> str:
        return ", ".join([self.who, self.mode, *([shown(self.options)] if self.who == OURS and self.options else [])])


@dataclass(frozen=True)
class LeftOut:
    """What is not in a comparison, and why."""

    who: str
    reason: str


def shown(options: Mapping[str, Any]) -> str:
    """Options as one writes them."""
    text = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.4g}", text)


def chosen(peers: Sequence[str] | None) -> list[str]:
    """The names of what to compare with; all of them by default.

    Raises: Refusal for an unknown one, with the nearest names.
    """
    known = (*LOOPS, *PEERS)
    for peer in peers or ():
        if peer not in known:
            raise Refusal("--peers", expected="known peers", got=repr(peer), do=nearest(peer, known))
    return list(known if peers is None else peers)


def contenders(
    name: str, steps: int, device: torch.device, peers: Sequence[str]
) -> tuple[list[Contender], list[LeftOut]]:
    """Ours with each set of options that a peer needs, our plain loop, and the peers, each in the modes of the device."""
    kind: type[Neuron] = find("neuron", name, "ranvier.nn.neurons", base="neuron").load()
    graph = ["CUDA graph"] if device.type == "cuda" else []
    found: list[Contender] = []
    left_out: list[LeftOut] = []
    for peer in (p for p in peers if p in PEERS):
        try:
            if find_spec(peer) is None:
                raise ImportError("not installed")
            spelling = PEERS[peer](name, kind(), device)
        except ImportError as error:
            left_out.append(LeftOut(peer, f"{error}: {INSTALL[peer]}"))
            continue
        if isinstance(spelling, str):
            left_out.append(LeftOut(peer, spelling))
            continue
        for mode in ("eager", *graph, COMPILED):
            if mode == COMPILED and steps > LONGEST:
                left_out.append(LeftOut(f"{peer}, {mode}", _LONG))
                continue
            build = _compiled(_as_is(spelling)) if mode == COMPILED else _as_is(spelling)
            found.append(Contender(peer, mode, spelling.words, build, spelling.options))
    loops = list(_loops(kind, [p for p in peers if p in LOOPS], steps, device, graph, left_out))
    compiled = [COMPILED] if any(one.mode == COMPILED for one in (*loops, *found)) else []
    ours = []
    for options in _distinct([{}, *(c.options for c in found)]):
        build = _ours(kind, options, device)
        for mode in ("eager", *graph, *compiled):
            made = _compiled(build) if mode == COMPILED else build
            ours.append(Contender(OURS, mode, shown(options) or "defaults", made, options))
    return [*ours, *loops, *found], left_out


_LONG = f"more than {LONGEST} steps: the loop is unrolled, and compiling takes seconds a step"


def _distinct(options: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({shown(o): o for o in options}.values())


def _ours(kind: type[Neuron], options: Mapping[str, Any], device: torch.device) -> Callable[[], Spelling]:
    def build() -> Spelling:
        layer = kind(**options).to(device)
        return Spelling("", layer, learnt=tuple(layer.parameters()))

    return build


def _loops(
    kind: type[Neuron],
    wanted: Sequence[str],
    steps: int,
    device: torch.device,
    graph: Sequence[str],
    left_out: list[LeftOut],
) -> Iterator[Contender]:
    def plain() -> Spelling:
        spelling = _ours(kind, {}, device)()
        return replace(spelling, function=_Loop(spelling.function))

    if "loop" in wanted:
        for mode in ("eager", *graph):
            yield Contender("loop", mode, LOOPS["loop"], plain)
    if "compile" in wanted and steps > LONGEST:
        left_out.append(LeftOut("compile", _LONG))
    elif "compile" in wanted:
        yield Contender("compile", COMPILED, LOOPS["compile"], _compiled(plain))


class _Loop(nn.Module):
    """Our step in a loop, without the dispatch to kernels, which a compiler would follow too."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        state, bound = self.layer.rest(x), self.layer.bind(state_dtype(x))
        if self.layer.random:
            bound.draws = Draws(state["seed"], state["step"], x.shape[2:])
        states = {name: state[name] for name in self.layer.states}
        return reference(self.layer, bound.advance_one_step, x, states)[0]


def _as_is(spelling: Spelling) -> Callable[[], Spelling]:
    return lambda: spelling


def _compiled(build: Callable[[], Spelling]) -> Callable[[], Spelling]:
    def compiled() -> Spelling:
        import torch._dynamo

        # the loops of all peers are one function, compiled for each of them, with a gradient and without
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        spelling = build()
        return replace(spelling, function=torch.compile(spelling.function, dynamic=False))

    return compiled
