"""The fit of a classifier whose synapses learn from spikes alone, sample by sample, without a loss or a gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.core.files import save
from ranvier.core.random import fresh_seeds
from ranvier.data.samples import Samples, Split
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.recipe import Recipe, Result, Session
from ranvier.models.sym_stdp import Labels, SymSTDPClassifier
from ranvier.ops.stdp.homeostasis import scaled

_TOGETHER, _FEW = 64, 500


@dataclass(frozen=True)
class LearnLocally:
    """Show each sample once, in order; then ask both read-outs, in test mode.

    Metrics: accuracy (by output spikes), labels: accuracy (by the classes that hidden neurons answer most, of `labelled` training
    samples), gap (between the two), share of the top tenth (of test samples that the busiest tenth of hidden neurons win),
    largest fall (of a weight while it learns), error of sums (after scaling), change in test mode. `networks` are fitted
    alike; their metrics carry their name.
    """

    repeats: int = 1
    batch: int = 1
    labelled: int = 10_000
    rows: int = 8
    networks: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)

    def __call__(self, recipe: Recipe, session: Session) -> Result:
        from ranvier.lab.classify import one_of_each
        from ranvier.lab.training import bar  # Lightning takes seconds to import

        result, split = Result(metrics={}), recipe.data(0)
        result.classes, result.examples = split.test.classes, one_of_each(split.test)
        with bar(session) as progress:
            for name, make in {"network": recipe.model, **self.networks}.items():
                seed_all(session.seed)
                started, model = perf_counter(), make()
                task = progress.add_task(name, total=self.repeats * len(split.train), result="")

                def move(samples: int, text: str, task: Any = task) -> None:
                    progress.update(task, advance=samples, result=text)

                classifier = next(m for m in model.modules() if isinstance(m, SymSTDPClassifier))
                own = _Fit(self, classifier, split, session, move)
                if not own.learn():
                    result.interrupted = True
                    break
                prefix = "" if name == "network" else f"{name}: "
                found, confusion = own.judge()
                result.metrics |= {prefix + k: v for k, v in found.items()}
                result.seconds[f"{prefix}training"] = perf_counter() - started
                path = session.folder / "weights" / f"{name.replace(' ', '-')}-0.safetensors"
                path.parent.mkdir(exist_ok=True)
                save(model.state_dict(), path)
                if name == "network":
                    result.model, result.curves, result.confusion = model, own.rows, confusion
        return result


@dataclass
class _Fit:
    """One network on one split."""

    options: LearnLocally
    model: SymSTDPClassifier
    split: Split
    session: Session
    move: Callable[[int, str], None]
    rows: list[dict[str, float]] = field(default_factory=list)
    fall: float = 0.0
    off: float = 0.0

    def learn(self) -> bool:
        """All training samples; False when asked to stop."""
        train, batch, state = self.split.train, self.options.batch, None
        order = np.tile(np.arange(len(train)), self.options.repeats)
        every = max(len(order) // self.options.rows, 1)
        spikes = 0.0
        for start in range(0, len(order) - len(order) % batch, _TOGETHER * batch):
            ink, label = _images(train, order[start : start + _TOGETHER * batch])
            for k in range(0, len(label) - len(label) % batch, batch):
                if self.session.stop.is_set():
                    return False
                at = start + k
                probe = at % every < batch
                weights = self.model.weight.clone() if probe else None
                seeds = self._seeds(at, batch)
                fired, state = self.model.learn(ink[k : k + batch], label[k : k + batch], seeds, state)
                if weights is not None:
                    self._probe(weights)
                spikes += float(fired.sum())
                if (at + batch) // every > at // every:
                    self.rows.append(self._row(order[: at + batch], spikes / every))
                    spikes = 0.0
            self.move(len(label), "" if not self.rows else f"{self.rows[-1]['test accuracy']:.3f}")
        return True

    def judge(self) -> tuple[dict[str, float], list[list[int]]]:
        """What both read-outs say of the test, and the confusion of the output neurons."""
        before = [t.clone() for t in self.model.buffers()]
        labels, train = Labels(len(self.split.test.classes)), self.split.train
        for index in np.array_split(np.arange(len(train))[-self.options.labelled :], -(-len(train) // _TOGETHER)):
            if len(index):
                ink, y = _images(train, index)
                labels.add(self.model.respond(ink, self._seeds(int(index[0]), len(y), 2))[1], y)
        output, hidden, truth = self._respond(self.split.test, np.arange(len(self.split.test)), 3)
        accuracy = float((output.argmax(1) == truth).float().mean())
        labelled = float((labels.scores(hidden).argmax(1) == truth).float().mean())
        wins = torch.bincount(hidden.argmax(1), minlength=hidden.shape[1]).sort(descending=True).values
        changes = (float((a - b).abs().max()) for a, b in zip(before, self.model.buffers(), strict=True))
        metrics = {
            "accuracy": accuracy,
            "labels: accuracy": labelled,
            "gap": abs(accuracy - labelled),
            "share of the top tenth": float(wins[: max(len(wins) // 10, 1)].sum() / wins.sum()),
            "largest fall": self.fall,
            "error of sums": self.off,
            "change in test mode": max(changes),
        }
        confusion = np.zeros((labels.classes,) * 2, dtype=np.int64)
        np.add.at(confusion, (truth.numpy(), output.argmax(1).numpy()), 1)
        return metrics, confusion.tolist()

    def _probe(self, weights: Tensor) -> None:
        """What learning did to scaled weights, which a sample ends with."""
        target = self.model.sums[0]
        before = scaled(weights, target)
        self.fall = max(self.fall, float((before - self.model.weight).max()))
        self.off = max(self.off, float((before.double().sum(0) / target - 1).abs().max()))

    def _row(self, shown: np.ndarray, spikes: float) -> dict[str, float]:
        row = {"fold": 0, "epoch": len(self.rows), "hidden spikes": spikes}
        for part, samples, index in (("train", self.split.train, shown), ("test", self.split.test, None)):
            chosen = np.arange(min(_FEW, len(samples))) if index is None else index[-_FEW:]
            output, _, truth = self._respond(samples, chosen, 4)
            row[f"{part} accuracy"] = float((output.argmax(1) == truth).float().mean())
        return row

    def _respond(self, samples: Samples, index: np.ndarray, stream: int) -> tuple[Tensor, Tensor, Tensor]:
        outputs, hidden, truth = [], [], []
        for start in range(0, len(index), _TOGETHER):
            ink, label = _images(samples, index[start : start + _TOGETHER])
            a, b = self.model.respond(ink, self._seeds(start, len(label), stream))
            outputs.append(a)
            hidden.append(b)
            truth.append(label)
        return torch.cat(outputs), torch.cat(hidden), torch.cat(truth)

    def _seeds(self, first: int, count: int, stream: int = 1) -> Tensor:
        # strengths of presentation are added to a seed, so that those of two samples must lie further apart
        return fresh_seeds(1, torch.device("cpu"), 5 * self.session.seed + stream) + 64 * torch.arange(
            first, first + count
        )


def _images(samples: Samples, index: np.ndarray) -> tuple[Tensor, Tensor]:
    batch = samples.batch(index)
    return batch.x[0].flatten(1), batch.y
