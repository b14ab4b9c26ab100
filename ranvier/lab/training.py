"""Training one network with Lightning: the step, the record of every epoch, and the watch for NaN."""

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import lightning
import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from ranvier.core.checks import NonFinite, Refusal
from ranvier.core.running import run
from ranvier.data.samples import Batch
from ranvier.lab import loggers
from ranvier.lab.loading import Ahead, Order, as_they_are, in_order, key
from ranvier.lab.recipe import Session
from ranvier.lab.recording import Files, Place, Record

Draw = Callable[[Any, np.ndarray, torch.Generator], Batch]
"""How samples become a training batch: which ones, and what random numbers they may be varied by."""
EachEpoch = Callable[[nn.Module, int], None]
"""What follows a schedule of its own, such as the width of delay kernels."""
Optimiser = Callable[[nn.Module, int], tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]]


class Data(Protocol):
    """What is trained on or judged by: samples by number, as batches."""

    def __len__(self) -> int: ...
    def batch(self, index: np.ndarray | None = None) -> Batch: ...
    def batches(self, size: int) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Task:
    """What a network's output is compared with, and how."""

    score: str
    """what `goodness` is called in the rows of the curves"""
    forward: Callable[[nn.Module, Batch], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    """on test data"""
    goodness: Callable[[Tensor, Tensor], Tensor]


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """The model's scores [B, classes] for a padded batch; lengths go along only where they differ from T."""
    ragged = bool((batch.lengths < len(batch.x)).any())
    scores, _ = run(model, batch.x, lengths=batch.lengths if ragged else None)
    if scores.ndim != 2 or len(scores) != len(batch.y):
        raise Refusal(
            "model output",
            expected=f"scores [B={len(batch.y)}, classes]",
            got=f"shape {tuple(scores.shape)}",
            do="End the network with a decoder, such as ranvier.RateDecoder().",
        )
    return scores


def accuracy(scores: Tensor, y: Tensor) -> Tensor:
    """The share of samples whose largest score is their class; mixed samples count as that of their largest share."""
    return (scores.argmax(1) == (y if y.ndim == 1 else y.argmax(1))).float().mean()


CLASSIFICATION = Task("accuracy", forward, cross_entropy, accuracy)


@torch.no_grad()
def predict(model: nn.Module, samples: Data, batch: int = 256, task: Task = CLASSIFICATION) -> Tensor:
    """The model's output for all samples in eval mode, on the device where it is: scores [samples, classes]."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    try:
        return torch.cat(
            [task.forward(model, Batch(*(t.to(device) for t in b))).float().cpu() for b in samples.batches(batch)]
        )
    finally:
        model.train(training)


def train(
    model: nn.Module,
    split: tuple[Data, Data],
    session: Session,
    *,
    epochs: int,
    batch: int,
    optimiser: Optimiser,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    task: Task = CLASSIFICATION,
    draw: Draw | None = None,
    each_epoch: EachEpoch | None = None,
    repeats: int = 1,
    name: str = "model",
    fold: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place; returns one row an epoch, fewer when session.stop was set meanwhile.

    `each_epoch` is called with the model and the epoch, counted from 0, before its first batch.

    Weights are kept in the session's folder after every epoch and when stopped, and checkpoints as `session.every` says.
    With `session.resume` it goes on from the last of them, and ends with the same rows and weights to the bit as without
    interruption (on one device; several only keep checkpoints at the ends of epochs).

    Raises: NonFinite when a loss or gradient is not finite; the last good weights stay in the folder. Refusal when both
    of the checkpoints to resume from are damaged, or there is no room for one.
    """
    place = Place(session.folder, name, fold)
    resumed = place.begin(session.resume)
    several = session.devices not in ("auto", 1, "1")
    record = Record(place, session, progress, resumed)
    learnt, judged = split
    order = Order(len(learnt) * repeats, batch, session.seed, fold)
    module = _Module(model, learnt, session, optimiser, loss, task, draw, each_epoch, epochs, fold, order, record)
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator=session.accelerator,
            devices=session.devices if session.accelerator != "auto" or several or torch.cuda.is_available() else 1,
            # forked processes take the network as it is and hand its weights back, which a re-run of the script can't
            strategy="ddp_notebook" if several else "auto",
            precision=session.precision,  # type: ignore[arg-type]
            callbacks=[record],
            plugins=[Files()],
            logger=loggers.make(session, place.stem) or False,
            default_root_dir=session.folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(
                module,
                val_dataloaders=as_they_are(judged, 4 * batch),
                ckpt_path=str(place.checkpoint) if resumed else None,
            )
        except (Exception, SystemExit):  # Stopped, what a process of several makes of it, or Lightning's for SIGTERM
            if not session.stop.is_set():
                raise
        finally:
            module.ahead.close()
    return place.written()


class _Module(lightning.LightningModule):
    def __init__(
        self,
        model: nn.Module,
        samples: Data,
        session: Session,
        optimiser: Optimiser,
        loss: Callable[[Tensor, Tensor], Tensor],
        task: Task,
        draw: Draw | None,
        each_epoch: EachEpoch | None,
        epochs: int,
        fold: int,
        order: Order,
        record: Record,
    ) -> None:
        super().__init__()
        self.model, self.samples, self.session = model, samples, session
        self.optimiser, self.loss, self.task, self.draw = optimiser, loss, task, draw
        self.each_epoch, self.epochs, self.fold = each_epoch, epochs, fold
        self.order, self.record = order, record
        self.ahead = Ahead(self._batch)

    def train_dataloader(self) -> DataLoader[Any]:
        self.order.share(self.trainer.world_size, self.trainer.global_rank)
        return in_order(self.order)

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        made, schedule = self.optimiser(self.model, steps)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        if self.each_epoch is not None:  # what it changed in an epoch that was begun is in the checkpoint
            self.each_epoch(self.model, self.current_epoch)

    def training_step(self, index: Tensor, step: int) -> Tensor:
        begun = perf_counter()
        numbers, now = index.numpy(force=True), self.global_step
        if _a_processor_is_free(self.device, self.trainer.num_devices):
            following = self.order.at(self.record.batches + 1)
            if not following and self.current_epoch + 1 < self.epochs:
                following = self.order.next()
            batch = self.ahead.get(numbers, now, following)
        else:
            batch = self._batch(numbers, now)
        samples = Batch(*self.trainer.precision_plugin.convert_input(tuple(t.to(self.device) for t in batch)))
        self.latest = samples, index % len(self.samples)
        self.record.waited(perf_counter() - begun)
        output = self.task.forward(self.model, samples)
        loss = self.loss(output, samples.y)
        found = [loss.detach().float(), self.task.goodness(output.detach(), samples.y)]
        value, share = torch.stack(found).tolist()  # one wait for the device
        if not math.isfinite(value):
            raise self._not_finite("the loss")
        self.record.add(value, share, len(samples.y))
        return loss

    def _batch(self, index: np.ndarray, step: int) -> Batch:
        index = index % len(self.samples)
        if self.draw is None:
            return self.samples.batch(index)
        # what is drawn is a function of seed, fold, step and process alone
        start = key(self.session.seed, self.fold) + step * 64 + self.global_rank
        return self.draw(self.samples, index, torch.Generator().manual_seed(start))

    def validation_step(self, batch: Batch, step: int) -> None:
        samples = Batch(*batch)
        output = self.task.forward(self.model, samples)
        values = {
            "test loss": self.task.loss(output, samples.y),
            f"test {self.task.score}": self.task.goodness(output, samples.y),
        }
        self.log_dict(values, batch_size=len(samples.y), sync_dist=True)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.session.precision.startswith("16"):
            return  # the gradient scaler skips steps whose gradients overflow
        found = {n: p.grad.isfinite().all() for n, p in self.model.named_parameters() if p.grad is not None}
        if found and not bool(torch.stack(list(found.values())).all()):  # one wait for the device
            raise self._not_finite(f"the gradient of {next(n for n, fine in found.items() if not fine)!r}")

    def _not_finite(self, where: str) -> NonFinite:
        where = _first_bad(self.model, self.task, *self.latest) or where
        return NonFinite(
            f"{where}: expected finite numbers, got NaN or Inf in epoch {self.current_epoch + 1}. "
            "Lower the learning rate, or look at that sample. The last good weights are kept."
        )


def _a_processor_is_free(device: torch.device, processes: int) -> bool:
    """Whether the next batch can be made meanwhile without taking time from the current one."""
    return device.type != "cpu" or processes * torch.get_num_threads() < len(os.sched_getaffinity(0))


def bar(session: Session) -> Progress:
    """The live progress bar of a session: what is trained, how far, loss and accuracy, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[result]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Progress(*columns, disable=not session.progress)


def _first_bad(model: nn.Module, task: Task, batch: Batch, index: Tensor) -> str | None:
    """The first layer whose output is not finite, and the first sample that it is so for; None when all are finite."""
    found: list[tuple[str, int]] = []
    size = len(batch.y)

    def look(name: str, output: object) -> None:
        if found or not isinstance(output, Tensor) or bool(output.isfinite().all()):
            return
        bad = ~output.isfinite()
        if bad.ndim < 3 or bad.shape[1] != size:  # [B, ...], or [T B, ...] inside a Fold
            bad = bad.reshape(-1, size, *bad.shape[1:])
        found.append((name, int(index[bad.transpose(0, 1).flatten(1).any(1)][0])))

    leaves = ((name, m) for name, m in model.named_modules() if not list(m.children()))
    hooks = [m.register_forward_hook(lambda _m, _i, out, name=name: look(name, out)) for name, m in leaves]
    try:
        with torch.no_grad():
            task.forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        return None
    name, sample = found[0]
    return f"layer {name!r} ({type(model.get_submodule(name)).__name__}), sample {sample} of the training set"


class _quiet:  # noqa: N801
    """Lightning's notes on hardware, workers and logging say nothing that a run does not."""

    def __enter__(self) -> None:
        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.filterwarnings("ignore", module="lightning.*")
        names = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed")
        self.levels = {logger: logger.level for logger in map(logging.getLogger, names)}
        for logger in self.levels:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        for logger, level in self.levels.items():
            logger.setLevel(level)
        self.caught.__exit__(None, None, None)
