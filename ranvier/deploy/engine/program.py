"""A trained model as a flat program that computes only where a spike is, and the runs of it."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.running import run as run_model
from ranvier.deploy.engine import kernels as k
from ranvier.deploy.engine.lowered import At, Lowered, Signal, Word
from ranvier.deploy.engine.lowering import lower
from ranvier.deploy.engine.stored import require_state
from ranvier.nn.coding.decoder import Decoder
from ranvier.nn.coding.direct import Direct
from ranvier.nn.norms.fold_norms import fold_norms
from ranvier.ops.native import tabled

State = dict[str, np.ndarray]


def compile(model: nn.Module, shape: Sequence[int], skip: bool = True) -> "Program":
    """A trained model as a program of the event-driven engine, for steps of features `shape` (without time and batch).

    Each layer becomes operations on lists of active inputs: rows of weights are added for those that spike, neurons
    advance by the very step they were trained with, and one native call goes through all layers and all time steps.
    Norms are folded into weights. What comes before the first neuron and gives a static picture its time (Direct,
    RateEncoder, LatencyEncoder), and the decoders at the end, stay torch's.

    With `skip` neurons of convolutional and sparse layers that get no input rest, and are brought up to date in closed form when
    they get some, wherever the graph of their step says that silence is a line and ends below the threshold.

    Raises: Refusal for a layer that has no operation, with its place, and what would make it one.

    >>> import torch, ranvier
    >>> model = torch.nn.Sequential(ranvier.Linear(3, 8), ranvier.LIF(), ranvier.Linear(8, 2), ranvier.LIF())
    >>> program = compile(model, [3])
    >>> x = torch.bernoulli(torch.full((10, 1, 3), 0.5))
    >>> torch.equal(program(x), model(x))
    True
    """
    folded = fold_norms(model)
    layers = list(_flat(folded))
    if not layers:
        raise Refusal("compile", expected="a model with layers", got="none", do="Give an nn.Sequential.")
    first, last = 0, len(layers)
    for i, (_, layer) in enumerate(layers):
        if isinstance(layer, Direct) or (
            type(layer).__module__.startswith("ranvier.nn.coding.") and not isinstance(layer, Decoder)
        ):
            first = i + 1
        if isinstance(layer, Decoder):
            last = i
            break
    head, tail = (nn.Sequential(*(m for _, m in part)).eval() for part in (layers[:first], layers[last:]))
    if first:
        with torch.no_grad():
            shape = tuple(head(torch.zeros(1, 1, *shape)).shape[2:])
    lowered = Lowered(skip=skip)
    order = np.arange(prod(shape), dtype=np.int32)
    x = lowered.signal(shape, order)
    lowered.op(k.FRAME, *x.words, lowered.fixed(order))
    for name, layer in layers[first:last]:
        x = lower(layer, lowered, x, name)
    lowered.op(k.OUT, x.value, lowered.fixed(x.order), x.size)
    return Program(lowered, tuple(shape), x, head if first else None, tail if len(tail) else None)


def _flat(model: nn.Module, name: str = "") -> list[tuple[str, nn.Module]]:
    if type(model) is nn.Sequential:
        return [pair for child, m in model.named_children() for pair in _flat(m, f"{name}.{child}" if name else child)]
    return [(name, model)]


class Program:
    """What `compile` makes of a model: called as the model, `run` as `ranvier.run`, `live` for streams."""

    def __init__(
        self, lowered: Lowered, shape: tuple[int, ...], out: Signal, head: nn.Module | None, tail: nn.Module | None
    ) -> None:
        self.lowered, self.shape, self.out_shape = lowered, shape, out.shape
        self.head, self.tail = head, tail
        self.every = lowered.every

    def __call__(self, x: Tensor) -> Tensor:
        """The model's output for sequences x [T, B, ...] from rest."""
        return self.run(x)[0]

    def run(self, x: Tensor, state: Mapping[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The output for x [T, B, ...] continued from `state`, and where it ends: a flat dict of tensors, batch first.

        Raises: Refusal for another shape, or a state of another program or batch size.
        """
        with torch.no_grad():
            if self.head is not None:
                x = self.head(x)
            if x.ndim < 2 or tuple(x.shape[2:]) != self.shape:
                raise Refusal(
                    "Program.run",
                    expected=f"[T, B, {', '.join(map(str, self.shape))}]",
                    got=f"shape {tuple(x.shape)}",
                    do="Give what the model was compiled for.",
                )
            after: list[State] = []
            outputs = []
            for b in range(x.shape[1]):
                live = Live(
                    self,
                    None
                    if state is None
                    else {
                        name: _one(name, v, x.shape[1], b)
                        for name, v in state.items()
                        if not name.startswith("decoder.")
                    },
                )
                outputs.append(live.frames(x[:, b].reshape(len(x), -1)))
                after.append(live.state())
            y = torch.stack(outputs, 1).reshape(-1, x.shape[1], *self.out_shape)
            new = {name: torch.from_numpy(np.stack([a[name] for a in after])) for name in (after[0] if after else {})}
            if self.tail is None:
                return y, new
            given = {n.removeprefix("decoder."): v for n, v in (state or {}).items() if n.startswith("decoder.")}
            y, ends = run_model(self.tail, y, given if state is not None else None)
            return y, new | {f"decoder.{n}": v for n, v in ends.items()}

    def live(self, state: Mapping[str, np.ndarray] | None = None) -> "Live":
        """One stream through the program, from rest or from where another ended."""
        return Live(self, state)


def _one(name: str, value: Tensor, batch: int, b: int) -> np.ndarray:
    if len(value) != batch:
        raise Refusal(
            f"state {name!r}",
            expected=f"a batch of {batch}",
            got=str(len(value)),
            do="Continue with the same batch size.",
        )
    return value[b].numpy()


class Live:
    """A stream: the program with memory of its own, moved on step by step; its `state` can be saved and continued."""

    def __init__(self, program: Program, state: Mapping[str, np.ndarray] | None = None) -> None:
        lowered = program.lowered
        self.program = program
        self.arrays: list[np.ndarray] = []
        for number, array in enumerate(lowered.arrays):
            if isinstance(array, list):
                array = np.zeros(len(array), np.int64)
            self.arrays.append(array.copy() if number in lowered.changing else array)
        for number, array in enumerate(lowered.arrays):
            if isinstance(array, list):
                self.arrays[number][:] = [self._word(w) for w in array]
        self.ops = np.array([[self._word(w) for w in op] for op in lowered.ops], np.int64)
        self.size = prod(program.shape)
        self.output = np.zeros((1, prod(program.out_shape)), np.float32)
        self.rows = np.zeros(1, np.int64)
        self.nothing = np.zeros((0, self.size), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int32)
        self.code = k.run.code()
        self.input = np.zeros((1, self.size), np.float32)
        self.table = tabled([self.ops, 1, self.input, self.output, *self.nothing[1:], 0, self.rows])
        self.place = self.table.ctypes.data
        numbers = lowered.states.values()
        self.resting = [(self.arrays[n], first) for n in numbers if isinstance(first := lowered.arrays[n], np.ndarray)]
        if state is not None:
            self._load(state)

    def _word(self, word: Word) -> int:
        return self.arrays[word.number].ctypes.data if isinstance(word, At) else word

    def state(self) -> State:
        """Everything that the next step depends on, as a copy."""
        return {name: self.arrays[number].copy() for name, number in self.program.lowered.states.items()}

    def _load(self, state: Mapping[str, np.ndarray]) -> None:
        require_state(self.program.lowered, state)
        for name, number in self.program.lowered.states.items():
            self.arrays[number][:] = state[name]

    def restart(self) -> None:
        """Go back to rest, as for the next recording."""
        for own, first in self.resting:
            own[:] = first

    def frames(self, x: Tensor) -> Tensor:
        """The outputs of steps x [T, features]."""
        if x.ndim != 2 or x.shape[1] != self.size:
            got, do = f"shape {tuple(x.shape)}", "Flatten the features of each step."
            raise Refusal("Live.frames", expected=f"[T, {self.size}]", got=got, do=do)
        return torch.from_numpy(self._go(len(x), frames=np.ascontiguousarray(x.numpy(), np.float32)))

    def step(self, frame: np.ndarray) -> np.ndarray:
        """The output of one step of all features, flat; the array is used again for the next step."""
        if frame.size != self.size:
            do = "Flatten all features of one step."
            raise Refusal("Live.step", expected=f"{self.size} numbers", got=str(frame.size), do=do)
        self.input[0] = frame.reshape(-1)
        self.rows[0] = 0
        self.code(self.place, 0, 1)
        row: np.ndarray = self.output[0]
        return row

    def events(self, starts: np.ndarray, places: np.ndarray, once: bool = False) -> np.ndarray:
        """The outputs of steps given as events: those of step t are places[starts[t] : starts[t + 1]], flat indices.

        Several events at one place in one step count as often as they come, or once.
        """
        starts, places = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(places, np.int32)
        if len(starts) < 1 or starts[0] < 0 or starts[-1] > len(places) or (np.diff(starts) < 0).any():
            raise Refusal(
                "events",
                expected="rising starts within the events",
                got=f"{starts[:3]} ... {starts[-1:]}",
                do="Count the events of each step.",
            )
        if len(places) and (places.min() < 0 or places.max() >= self.size):
            raise Refusal(
                "events",
                expected=f"places in 0 ... {self.size - 1}",
                got=f"{places.min()} ... {places.max()}",
                do="Remove events outside of the sensor.",
            )
        return self._go(len(starts) - 1, starts=starts, events=places, once=once)

    def _go(
        self,
        steps: int,
        frames: np.ndarray | None = None,
        starts: np.ndarray | None = None,
        events: np.ndarray | None = None,
        once: bool = False,
    ) -> np.ndarray:
        outputs = np.zeros((steps // self.program.every + 1, self.output.shape[1]), np.float32)
        self.rows[0] = 0
        table = self.table.copy()
        table[1, 0], table[6, 0] = steps, int(once)
        table[3, :2] = outputs.ctypes.data, len(outputs)
        if frames is not None:
            table[2, :2] = frames.ctypes.data, steps
        if starts is not None and events is not None:
            table[4, :2], table[5, :2] = (starts.ctypes.data, len(starts)), (events.ctypes.data, len(events))
        self.code(table.ctypes.data, 0, 1)
        return outputs[: self.rows[0]]
