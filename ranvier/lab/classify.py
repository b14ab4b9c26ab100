"""The usual fit: a classifier trained fold by fold, judged on what it has not seen, beside others in the same folds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from ranvier.core.checks import NonFinite
from ranvier.data.samples import Samples, Split
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.folds import Trained, adamw, added, scored, trained
from ranvier.lab.recipe import Recipe, Result, Scores, Session

if TYPE_CHECKING:
    from rich.progress import Progress

    from ranvier.lab.training import Draw, EachEpoch, Optimiser


@dataclass(frozen=True)
class Classify:
    """Train on each fold's train part and measure on its test part.

    Metrics: accuracy (over all test samples), worst fold (its accuracy), vote (majority over the samples of one group,
    such as the windows of a recording; ties go to the larger summed log-probability). `networks` are trained in the
    same way and `baselines` score each split; their metrics carry their name.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises; then it falls along a cosine."""
    folds: int = 1
    draw: "Draw | None" = None
    """How training samples become a batch, varied at random; as they are by default."""
    optimiser: "Optimiser | None" = None
    """What trains, and its schedule; by default AdamW as `learning_rate`, `weight_decay` and `warmup` say."""
    each_epoch: "EachEpoch | None" = None
    """Called with the network and the epoch, counted from 0, before each epoch."""
    repeats: int = 1
    """How often each training sample is drawn in an epoch."""
    networks: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)
    may_diverge: bool = False
    """A network beside that meets NaN or Inf counts as chance, instead of ending the run."""
    baselines: Mapping[str, Callable[[Split, int], Scores]] = field(default_factory=dict)

    def __call__(self, recipe: Recipe, session: Session) -> Result:
        from ranvier.lab.training import bar  # Lightning takes seconds to import

        result = Result(metrics={})
        networks = {"network": recipe.model, **self.networks}
        splits = [Split(*(part.require_finite() for part in recipe.data(k))) for k in range(self.folds)]
        tests = [split.test for split in splits]
        result.classes = tests[0].classes
        with bar(session) as progress:
            for name, make in networks.items():
                done: list[Trained] = []
                for fold, split in enumerate(splits):
                    if session.stop.is_set():
                        result.interrupted = True
                        break
                    seed_all(session.seed * 1009 + fold)
                    model = make()
                    if name == "network":
                        result.model = model
                        result.examples = one_of_each(split.test)
                    try:
                        one = self._fold(model, split, session, name, fold, progress)
                    except NonFinite:
                        if name == "network" or not self.may_diverge:
                            raise
                        result.metrics[f"{name}: accuracy"] = 1 / len(result.classes)
                        done = []
                        break
                    if name == "network":
                        result.curves += one.rows
                        result.waiting = added(result.waiting, one.times)
                    done.append(one)
                    if one.scores is None:
                        result.interrupted = True
                        break
                key = "training" if name == "network" else f"{name}: training"
                result.seconds[key] = sum(one.times["seconds"] for one in done)
                self._measure(name, tests, [one.scores for one in done if one.scores is not None], result)
                if result.interrupted:
                    return result
        for name, baseline in self.baselines.items():
            done = []
            for fold, split in enumerate(splits):
                if session.stop.is_set():
                    result.interrupted = True
                    break
                done.append(scored(partial(baseline, split, session.seed), session, name, fold))
            self._measure(name, tests, [one.scores for one in done if one.scores is not None], result)
            result.seconds[name] = sum(one.times["seconds"] for one in done)
            if result.interrupted:
                return result
        return result

    def _fold(
        self, model: nn.Module, split: Split, session: Session, name: str, fold: int, progress: "Progress"
    ) -> "Trained":
        from ranvier.lab.training import CLASSIFICATION

        return trained(
            model,
            split,
            session,
            CLASSIFICATION,
            epochs=self.epochs,
            batch=self.batch,
            optimiser=self.optimiser or partial(adamw, self.learning_rate, self.weight_decay, self.warmup),
            each_epoch=self.each_epoch,
            loss=self._loss,
            draw=self.draw,
            repeats=self.repeats,
            name=name,
            fold=fold,
            progress=progress,
        )

    def _loss(self, scores: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(scores, y, label_smoothing=self.label_smoothing)

    def _measure(self, name: str, tests: list[Samples], scores: list[Scores], result: Result) -> None:
        prefix = "" if name == "network" else f"{name}: "
        if not scores:
            return
        pairs = list(zip(tests, scores, strict=False))  # an interrupted run has fewer scores
        hits = [np.mean(said(s) == t.y) for t, s in pairs]
        truth = np.concatenate([t.y for t, _ in pairs])
        answer = np.concatenate([said(s) for _, s in pairs])
        result.metrics[f"{prefix}accuracy"] = float(np.mean(answer == truth))
        if self.folds > 1:
            result.metrics[f"{prefix}worst fold"] = float(min(hits))
        votes = [vote(t, s) for t, s in pairs]
        if sum(len(v) for v in votes) < len(truth):
            result.metrics[f"{prefix}vote"] = float(np.mean(np.concatenate(votes)))
        if name == "network":
            counts = np.zeros((len(result.classes),) * 2, dtype=np.int64)
            np.add.at(counts, (truth, answer), 1)
            result.confusion = counts.tolist()


def said(scores: Scores) -> np.ndarray:
    """The class with the largest score, for each sample."""
    answer: np.ndarray = scores.argmax(1).numpy()
    return answer


def vote(test: Samples, scores: Scores) -> np.ndarray:
    """For each group, whether the majority of its samples is right; ties go to the larger summed log-probability.

    >>> import torch
    >>> two = Samples(x=[np.zeros((1, 1))] * 3, y=np.array([1, 1, 1]), classes=("a", "b"), group=np.array([7, 7, 7]))
    >>> vote(two, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    array([ True])
    """
    answer, trust = said(scores), log_softmax(scores, 1).numpy()
    right = []
    for group in np.unique(test.group):
        mine = test.group == group
        counts = np.bincount(answer[mine], minlength=scores.shape[1])
        best = np.flatnonzero(counts == counts.max())
        right.append(best[trust[mine].sum(0)[best].argmax()] == test.y[mine][0])
    return np.array(right)


def one_of_each(test: Samples, most: int = 8) -> Samples:
    """The first sample of each class, for the report."""
    first = np.unique(test.y, return_index=True)[1][:most]
    return replace(test.take(first))
