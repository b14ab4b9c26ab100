"""All ways in which one neuron is computed in a comparison, each built when it is needed."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

import ranvier
from ranvier.core.checks import Refusal, nearest
from ranvier.core.discovery import find
from ranvier.lab.bench.peers import INSTALL, PEERS, Spelling
from ranvier.nn.neurons.neuron import Neuron

OURS = "ranvier"
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


class Work:
    """Input and output gradient of a neuron, and the passes that are measured."""

    def __init__(self, x: Tensor, g: Tensor) -> None:
        self.x, self.g = x, g
        self._scaled: dict[float, Tensor] = {}

    def input(self, spelling: Spelling) -> Tensor:
        """The input that a peer needs for the same currents, made once."""
        if spelling.scale not in self._scaled:
            scaled = self.x if spelling.scale == 1 else self.x * spelling.scale
            self._scaled[spelling.scale] = scaled.detach().clone().requires_grad_()
        return self._scaled[spelling.scale]

    def forward(self, spelling: Spelling) -> Tensor:
        """The output, without what a backward pass would need."""
        with torch.no_grad():
            spelling.start()
            return spelling.function(self.input(spelling))

    def training(self, spelling: Spelling) -> Tensor:
        """The output, ready for a backward pass."""
        spelling.start()
        return spelling.function(self.input(spelling))

    def both(self, spelling: Spelling, g: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output and the input's gradient; those of what is learnt are computed as well."""
        y = self.training(spelling)
        g = self.g if g is None else g
        wanted = [self.input(spelling), *spelling.learnt]
        return y.detach(), torch.autograd.grad(y, wanted, g.to(y.dtype))[0]

    def compared(self, spelling: Spelling, delay: int) -> tuple[Tensor, Tensor]:
        """Output and gradient in terms of our input, without the last `delay` steps, which a delayed peer doesn't reach."""
        g = self.g.clone()
        g[len(g) - delay :] = 0
        y, grad = self.both(spelling, torch.roll(g, spelling.delay, 0))
        return torch.roll(y, -spelling.delay, 0)[: len(y) - delay], grad * spelling.scale


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
        for mode in ("eager", *graph, "torch.compile"):
            if mode == "torch.compile" and steps > LONGEST:
                left_out.append(LeftOut(f"{peer}, {mode}", _LONG))
                continue
            build = _compiled(spelling) if mode == "torch.compile" else _as_is(spelling)
            found.append(Contender(peer, mode, spelling.words, build, spelling.options))
    loops = list(_loops(kind, [p for p in peers if p in LOOPS], steps, device, graph, left_out))
    ours = [
        Contender(OURS, mode, shown(options) or "defaults", _ours(kind, options, device), options)
        for options in _distinct([{}, *(c.options for c in found)])
        for mode in ("eager", *graph)
    ]
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
        return replace(spelling, function=_Reference(spelling.function))

    if "loop" in wanted:
        for mode in ("eager", *graph):
            yield Contender("loop", mode, LOOPS["loop"], plain)
    if "compile" in wanted and steps > LONGEST:
        left_out.append(LeftOut("compile", _LONG))
    elif "compile" in wanted:
        # under a compiler's tracing a neuron of ours is its plain loop
        yield Contender("compile", "torch.compile", LOOPS["compile"], lambda: _compiled(_ours(kind, {}, device)())())


class _Reference(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        with ranvier.backend("reference"):
            y: Tensor = self.layer(x)
        return y


def _as_is(spelling: Spelling) -> Callable[[], Spelling]:
    return lambda: spelling


def _compiled(spelling: Spelling) -> Callable[[], Spelling]:
    return lambda: replace(spelling, function=torch.compile(spelling.function, dynamic=False))
