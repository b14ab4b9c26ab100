"""A fit for continuous recordings: what happened is decoded from signals, step by step, and judged by R2."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ranvier.core.running import run
from ranvier.data.recording import Recording
from ranvier.data.samples import Batch, Samples
from ranvier.data.stretches import Stretches
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.folds import adamw, added, scored, trained
from ranvier.lab.recipe import Recipe, Result, Session

if TYPE_CHECKING:
    from ranvier.lab.training import Task


@dataclass(frozen=True)
class Decode:
    """Train on stretches of a recording and decode another recording from end to end, in one pass.

    `recipe.data(0)` gives the two recordings, `model` maps x [T, B, channels] to y [T, B, targets], standardised. The
    loss is the mean squared error after the first `skip` steps of a stretch, in which the network does not know yet what
    came before. Metrics: R2, the mean over targets, and R2 of each; `networks` are trained in the same way, `baselines`
    get both recordings; their metrics carry their name.
    """

    epochs: int
    batch: int
    learning_rate: float
    steps: int
    """Steps of a stretch."""
    skip: int = 0
    weight_decay: float = 0.0
    warmup: float = 0.1
    repeats: int = 1
    """How often an epoch goes through as many stretches as the recording has."""
    networks: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)
    baselines: Mapping[str, Callable[[Recording, Recording], np.ndarray]] = field(default_factory=dict)

    def __call__(self, recipe: Recipe, session: Session) -> Result:
        from ranvier.lab.training import bar

        learnt, judged = recipe.data(0)
        mean, spread = learnt.y.mean(0), learnt.y.std(0)
        split = tuple(replace(part, y=(part.y - mean) / spread) for part in (learnt, judged))
        pieces = Stretches(split[0], self.steps), Stretches(split[1], len(judged))
        result = Result(metrics={})
        with bar(session) as progress:
            for name, make in {"network": recipe.model, **self.networks}.items():
                seed_all(session.seed * 1009)
                model = make()
                if name == "network":
                    result.model, result.examples = model, _examples(judged, self.steps)
                one = trained(
                    model,
                    pieces,
                    session,
                    _task(self.skip),
                    epochs=self.epochs,
                    batch=self.batch,
                    optimiser=partial(adamw, self.learning_rate, self.weight_decay, self.warmup),
                    loss=partial(_error, self.skip),
                    draw=Stretches.anywhere,
                    repeats=self.repeats,
                    name=name,
                    fold=0,
                    progress=progress,
                )
                if name == "network":
                    result.curves, result.waiting = one.rows, added({}, one.times)
                result.seconds["training" if name == "network" else f"{name}: training"] = one.times["seconds"]
                if one.scores is None:
                    result.interrupted = True
                    return result
                self._measure(name, one.scores[:, 0], split[1], result)
        for name, baseline in self.baselines.items():
            found = scored(lambda: torch.from_numpy(baseline(*split)), session, name, 0)  # noqa: B023  # called at once
            assert found.scores is not None
            self._measure(name, found.scores, split[1], result)
            result.seconds[name] = found.times["seconds"]
        return result

    def _measure(self, name: str, decoded: Tensor, truth: Recording, result: Result) -> None:
        prefix = "" if name == "network" else f"{name}: "
        each = r2(decoded, torch.from_numpy(truth.y))
        result.metrics[f"{prefix}R2"] = float(each.mean())
        for target, value in zip(truth.targets, each.tolist(), strict=True):
            result.metrics[f"{prefix}R2 {target}"] = value


def r2(decoded: Tensor, truth: Tensor) -> Tensor:
    """The share of each target's variance that is decoded: 1 - sum (y - d)^2 / sum (y - mean of y)^2, over all but the last axis.

    >>> r2(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [2.0]]))
    tensor([1.])
    """
    axes = tuple(range(truth.ndim - 1))
    return 1 - ((truth - decoded) ** 2).sum(axes) / ((truth - truth.mean(axes)) ** 2).sum(axes).clamp_min(1e-12)


def _task(skip: int) -> "Task":
    from ranvier.lab.training import Task

    return Task("R2", _forward, partial(_error, skip), lambda decoded, y: r2(decoded, y).mean())


def _forward(model: nn.Module, batch: Batch) -> Tensor:
    return run(model, batch.x)[0]


def _error(skip: int, decoded: Tensor, y: Tensor) -> Tensor:
    return mse_loss(decoded[skip:], y[skip:])


def _examples(recording: Recording, steps: int) -> Samples:
    """The first stretches of a recording, for the report."""
    x = [recording.x[i * steps : (i + 1) * steps] for i in range(min(3, len(recording) // steps))]
    return Samples(x=x, y=np.zeros(len(x), dtype=np.int64), classes=("recording",), rate=recording.rate)
