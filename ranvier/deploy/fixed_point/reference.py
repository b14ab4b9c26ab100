"""The reference of a program in whole numbers: many sequences at once, with plain numpy."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ranvier.compile.fixed_point import carried_out, shifted
from ranvier.core.running import run as run_model
from ranvier.deploy.fixed_point.program import FixedPoint
from ranvier.deploy.operations import Operation, synapses

Values = np.ndarray


class Reference:
    """Sequences through a program in whole numbers, step by step; `values` are its arrays, [B, size].

    >>> import torch, ranvier
    >>> from ranvier.deploy.engine.program import compile
    >>> from ranvier.deploy.fixed_point.program import fixed_point
    >>> model = torch.nn.Sequential(ranvier.Linear(3, 8), ranvier.LIF())
    >>> x = torch.ones(5, 2, 3)
    >>> reference = Reference(fixed_point(compile(model, [3]), "int16", x), batch=2)
    >>> torch.equal(reference.run(x), model(x))
    True
    """

    def __init__(self, program: FixedPoint, batch: int) -> None:
        self.program, self.batch = program, batch
        self.values = {n: np.broadcast_to(a.reshape(-1), (batch, a.size)).copy() for n, a in program.arrays.items()}
        self.matrices: dict[int, Values] = {}
        self.steps: dict[str, Callable[[Operation], bool | None]] = {
            "zero": self._zero,
            "dense": self._dense,
            "scatter": self._scatter,
            "maximum": self._maximum,
            "join": self._join,
            "neuron": self._neuron,
            "echo": self._echo,
            "arrive": self._arrive,
            "time_pool": self._time_pool,
            "relabel": self._relabel,
        }

    def run(self, x: Tensor) -> Tensor:
        """The model's output for sequences x [T, B, ...], in its own numbers; the decoder, where there is one, is torch's."""
        source = self.program.source
        with torch.no_grad():
            x = x if source.head is None else source.head(x)
            whole = self.quantised(x.float().reshape(*x.shape[:2], -1).numpy())
            rows = [row for frame in whole if (row := self.step(frame)) is not None]
            y = torch.from_numpy(np.stack(rows) * 2.0**-self.program.output.bits).float()
            y = y.reshape(len(y), x.shape[1], *source.out_shape)
            if source.tail is not None:
                y = run_model(source.tail, y)[0]
            return y

    def quantised(self, x: Values) -> Values:
        """Numbers as the program takes them in."""
        kind = self.program.input
        whole: np.ndarray = np.clip(np.rint(x * 2.0**kind.bits), kind.low, kind.high).astype(np.int64)
        return whole

    def step(self, frame: Values) -> Values | None:
        """One step of frames [B, N]: the outputs [B, M], or None where a TIME_POOL is not complete."""
        for op in self.program.ops:
            if op.kind == "frame":
                kind = self.program.input
                self.values[op["value"]][:, self.program.arrays[op["order"]]] = np.clip(frame, kind.low, kind.high)
            elif op.kind == "out":
                return self.values[op["value"]][:, self.program.arrays[op["order"]]]
            elif op.kind in self.steps and self.steps[op.kind](op):
                return None
        raise AssertionError("a program ends with its output")

    def digest(self, before: Values) -> Values:
        """A number that depends on all that the program remembers, and on `before`: uint32 [B]."""
        total = before * np.uint32(31)
        for number in self.program.memory.values():
            value = self.values[number].astype(np.int64).astype(np.uint32)
            total = total * np.uint32(31) + (value * (2 * np.arange(value.shape[1], dtype=np.uint32) + 1)).sum(
                1, dtype=np.uint32
            )
        return total

    def _zero(self, op: Operation) -> None:
        self.values[op["out"]][:] = 0

    def _dense(self, op: Operation) -> None:
        weights = self.program.arrays[op["weights"]].astype(np.float64)
        # exact: all sums are below 2^31
        self.values[op["out"]] += (self.values[op["value"]].astype(np.float64) @ weights).astype(np.int64)

    def _scatter(self, op: Operation) -> None:
        if op["out"] not in self.matrices:
            from scipy.sparse import csr_matrix

            source, place, target = synapses(self.program.source.lowered, op)
            weights = self.program.arrays[op["weights"]].reshape(-1)[place]
            shape = op["inputs"], self.program.arrays[op["out"]].size
            self.matrices[op["out"]] = csr_matrix((weights, (source, target)), shape).T.tocsr()
        sums = (self.matrices[op["out"]] @ self.values[op["value"]].T).T
        shift = int(self.values[op["head"]][0, 0]) if op["ring"] else 0
        self.values[op["out"]] += np.roll(sums, shift, 1)

    def _maximum(self, op: Operation) -> None:
        source, _, target = synapses(self.program.source.lowered, op)
        out = self.values[op["out"]]
        out[:] = 0
        for one, values in zip(out, self.values[op["value"]], strict=True):
            np.maximum.at(one, target, values[source])

    def _join(self, op: Operation) -> None:
        join, kind = self.program.joins[op["out"]], self.program.formats[op["out"]]
        total = np.broadcast_to(join.bias, (self.batch, join.bias.size)).copy()
        for number, by in join.parts:
            part = self.values[number]
            left, right = np.maximum(by, 0), np.maximum(-by, 0)
            half = np.where(right > 0, 1 << np.maximum(right - 1, 0), 0)
            total += ((part << left) + half) >> right
        self.values[op["out"]][:] = np.clip(total, kind.low, kind.high)

    def _neuron(self, op: Operation) -> None:
        plan, step = self.program.plans[op["out"]], op.step
        names = ("x", *(f"s:{s}" for s in step.step.states))
        places = (op["x"], *(s.number for s in step.states))
        results = carried_out(plan, {n: self.values[p] for n, p in zip(names, places, strict=True)})
        kind, made = self.program.formats[op["out"]], plan.instructions[plan.output]
        after = [np.array(np.broadcast_to(results[a], self.values[op["x"]].shape)) for a in plan.after]
        self.values[op["out"]][:] = np.clip(shifted(results[plan.output], kind.bits - made.bits), kind.low, kind.high)
        for place, value in zip(places[1:], after, strict=True):
            self.values[place] = value

    def _echo(self, op: Operation) -> None:
        size, slots = op["size"], op["slots"]
        past, head = self.values[op["past"]], self.values[op["head"]]
        at = int(head[0, 0])
        past[:, at * size : (at + 1) * size] = self.values[op["value"]]
        for d, delay in enumerate(self.program.arrays[op["delays"]]):
            row = (at + slots - int(delay)) % slots
            self.values[op["out"]][:, d * size : (d + 1) * size] = past[:, row * size : (row + 1) * size]
        head[:] = (at + 1) % slots

    def _arrive(self, op: Operation) -> None:
        ring, head, size = self.values[op["ring"]], self.values[op["head"]], op["size"]
        at = int(head[0, 0])
        self.values[op["out"]][:] = ring[:, at : at + size]
        ring[:, at : at + size] = 0
        head[:] = at + size if at + size < op["words"] else 0

    def _time_pool(self, op: Operation) -> bool:
        total, phase, out = self.values[op["sum"]], self.values[op["phase"]], op["out"]
        total += self.values[op["value"]]
        phase += 1
        if phase[0, 0] < op["steps"]:
            return True
        by, share = self.program.factors[out]
        kind = self.program.formats[out]
        self.values[out][:] = np.clip(shifted(total * share, -by), kind.low, kind.high)
        total[:], phase[:] = 0, 0
        return False

    def _relabel(self, op: Operation) -> None:
        out, kind = self.values[op["out"]], self.program.formats[op["out"]]
        by, _ = self.program.factors[op["out"]]
        moved = shifted(self.values[op["value"]] * self.program.arrays[op["factors"]].astype(np.int64), -by)
        out[:] = 0
        out[:, self.program.arrays[op["places"]]] = np.clip(moved, kind.low, kind.high)
