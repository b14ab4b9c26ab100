"""A fit of networks that are asked at every step: trained so that each step's output counts, stopped early on the test."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.core.files import load, write_json
from ranvier.core.running import run
from ranvier.data.samples import Batch, Samples, Split
from ranvier.deploy.early_exit.curves import Point
from ranvier.deploy.early_exit.early_exit import EarlyExit, Exit
from ranvier.deploy.early_exit.policy import ExitPolicy
from ranvier.deploy.early_exit.record import accumulated
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.folds import adamw, added, trained
from ranvier.lab.recipe import Recipe, Result, Session
from ranvier.learn.rcs_regulariser import RCSRegulariser
from ranvier.learn.tet_loss import tet_loss

if TYPE_CHECKING:
    from ranvier.lab.training import Draw, Task

_BATCH = 256


@dataclass(frozen=True)
class Judged:
    """A trained network with what a policy is chosen on and what it is tried on."""

    name: str
    model: nn.Module
    learnt: Samples
    kept: Samples
    """of the train part, not learnt from; empty where the recipe has no validation"""
    test: Samples
    scores: Tensor
    """of the test, accumulated [T, N, classes]"""

    @property
    def labels(self) -> Tensor:
        """Those of the test."""
        return torch.from_numpy(self.test.y)


@dataclass(frozen=True)
class Found:
    """What was measured of one network, and points of accuracy against latency by name."""

    metrics: Mapping[str, float]
    curves: Mapping[str, list[Point]] = field(default_factory=dict)


@dataclass(frozen=True)
class Anytime:
    """Train networks that end in outputs [T, B, classes] by the temporal efficient loss, and `judge` how they stop early.

    `alphas` are the networks and how much of RCSRegulariser is added to the loss of each; the first is "network", the
    recipe's own. With `recipe.validation` what it keeps is not learnt from. Metrics: accuracy, by the sum of all steps,
    and what `judge` finds. The session's folder gets latency.json, the curves.
    """

    epochs: int
    batch: int
    learning_rate: float
    judge: Callable[[Judged], Found]
    alphas: Mapping[str, float] = field(default_factory=lambda: {"network": 0.0})
    weight_decay: float = 0.0
    warmup: float = 0.1
    draw: "Draw | None" = None
    folds: ClassVar[int] = 1

    def __call__(self, recipe: Recipe, session: Session) -> Result:
        from ranvier.lab.recording import Place
        from ranvier.lab.training import bar  # Lightning takes seconds to import

        result = Result(metrics={})
        train, test = (part.require_finite() for part in recipe.data(0))
        learnt, kept = (train, train.take([])) if recipe.validation is None else recipe.validation(0)
        result.classes = test.classes
        curves: dict[str, list[Point]] = {}
        with bar(session) as progress:
            for name, alpha in self.alphas.items():
                own = name == "network"
                seed_all(session.seed * 1009)
                model = recipe.model()
                if own:
                    first = np.unique(test.y, return_index=True)[1][:8]
                    result.model, result.examples = model, test.take(first)
                one = trained(
                    model,
                    Split(learnt, test),
                    session,
                    _task(alpha),
                    epochs=self.epochs,
                    batch=self.batch,
                    optimiser=partial(adamw, self.learning_rate, self.weight_decay, self.warmup),
                    loss=_loss,
                    draw=self.draw,
                    name=name,
                    fold=0,
                    progress=progress,
                )
                result.seconds["training" if own else f"{name}: training"] = one.times["seconds"]
                if own:
                    result.curves, result.waiting = one.rows, added(result.waiting, one.times)
                if one.scores is None:
                    result.interrupted = True
                    return result
                if session.resume:  # an earlier sitting may have trained it
                    model.load_state_dict(load(Place(session.folder, name, 0).weights))
                scores = accumulated(one.scores[:, :-1].transpose(0, 1))
                if own:
                    result.confusion = _confusion(scores[-1], test)
                seed_all(session.seed * 1009 + 1)
                found = self.judge(Judged(name, model.cpu(), learnt, kept, test, scores))
                prefix = "" if own else f"{name}: "
                accuracy = float((scores[-1].argmax(1).numpy() == test.y).mean())
                result.metrics |= {f"{prefix}{k}": v for k, v in {"accuracy": accuracy, **found.metrics}.items()}
                curves |= {f"{prefix}{k}": v for k, v in found.curves.items()}
        points = {name: [point._asdict() for point in line] for name, line in curves.items()}
        write_json(session.folder / "latency.json", points)
        return result


def inputs(samples: Samples) -> Iterator[Tensor]:
    """The sequences of all samples in batches, as early_exit.record takes them."""
    return (batch.x for batch in samples.batches(_BATCH))


def stopped(model: nn.Module, policy: ExitPolicy, samples: Samples) -> Exit:
    """What the network says of all samples when it stops as the policy says, computed so and not simulated."""
    net = EarlyExit(model, policy)
    found = [net(x) for x in inputs(samples)]
    return Exit(torch.cat([f.scores for f in found]), torch.cat([f.steps for f in found]))


def _task(alpha: float) -> "Task":
    from ranvier.lab.training import Task

    return Task("accuracy", partial(_forward, alpha), _loss, _accuracy)


def _forward(alpha: float, model: nn.Module, batch: Batch) -> Tensor:
    """[B, T + 1, classes]: the outputs of all steps, and last what the regulariser adds for each sample."""
    if alpha:
        outputs, _, recorded = run(model, batch.x, record=RCSRegulariser.records)
        cost = RCSRegulariser(model, alpha=alpha).each(recorded, outputs, batch.y)
    else:
        outputs, cost = run(model, batch.x)[0], batch.x.new_zeros(len(batch.y))
    last = cost[:, None].expand(-1, outputs.shape[2])
    return torch.cat([outputs, last[None].to(outputs.dtype)]).transpose(0, 1)


def _loss(output: Tensor, y: Tensor) -> Tensor:
    return tet_loss(output[:, :-1].transpose(0, 1), y) + output[:, -1, 0].mean()


def _accuracy(output: Tensor, y: Tensor) -> Tensor:
    return (output[:, :-1].sum(1).argmax(1) == y).float().mean()


def _confusion(scores: Tensor, test: Samples) -> list[list[int]]:
    counts = np.zeros((len(test.classes),) * 2, dtype=np.int64)
    np.add.at(counts, (test.y, scores.argmax(1).numpy()), 1)
    counted: list[list[int]] = counts.tolist()
    return counted
