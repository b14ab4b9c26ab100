"""Training one network with Lightning: the step, the record of every epoch, and the watch for NaN."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from ranvier.core.checks import NonFinite, Refusal
from ranvier.core.files import save
from ranvier.core.running import run
from ranvier.data.samples import Batch, Samples, Split
from ranvier.lab.recipe import Session

Draw = Callable[[Samples, np.ndarray, torch.Generator], Batch]
"""How samples become a training batch: which ones, and what random numbers they may be varied by."""
Optimiser = Callable[[nn.Module, int], tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]]


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


@torch.no_grad()
def predict(model: nn.Module, samples: Samples, batch: int = 256) -> Tensor:
    """Scores [samples, classes] of the model in eval mode, on the device where it is."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    try:
        return torch.cat(
            [forward(model, Batch(*(t.to(device) for t in b))).float().cpu() for b in samples.batches(batch)]
        )
    finally:
        model.train(training)


def train(
    model: nn.Module,
    split: Split,
    session: Session,
    *,
    epochs: int,
    batch: int,
    optimiser: Optimiser,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    draw: Draw | None = None,
    repeats: int = 1,
    name: str = "model",
    fold: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, float]]:
    """Train `model` in place; returns one row an epoch, fewer when session.stop was set meanwhile.

    Weights are kept in the session's folder after every epoch and when stopped.

    Raises: NonFinite when a loss or gradient is not finite; the last good weights stay in the folder.
    """
    stem = f"{name.lower().replace(' ', '-')}-{fold}"
    weights, rows = session.folder / "weights" / f"{stem}.safetensors", session.folder / "curves" / f"{stem}.jsonl"
    for file in (weights, rows):
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
    several = session.devices not in ("auto", 1, "1")
    module = _Module(model, split.train, session, optimiser, loss, draw, epochs, fold)
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator=session.accelerator,
            devices=session.devices if session.accelerator != "auto" or several or torch.cuda.is_available() else 1,
            # forked processes take the network as it is and hand its weights back, which a re-run of the script can't
            strategy="ddp_notebook" if several else "auto",
            precision=session.precision,  # type: ignore[arg-type]
            callbacks=[_Record(rows, weights, progress, f"{name} {fold + 1}")],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(
                module, _indices(len(split.train) * repeats, batch, session.seed), _batches(split.test, 4 * batch)
            )
        except Exception:  # _Stopped, or whatever a process of several makes of it
            if not session.stop.is_set():
                raise
    return [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []


class _Stopped(Exception):
    """The user asked to stop."""


class _Module(lightning.LightningModule):
    def __init__(
        self,
        model: nn.Module,
        samples: Samples,
        session: Session,
        optimiser: Optimiser,
        loss: Callable[[Tensor, Tensor], Tensor],
        draw: Draw | None,
        epochs: int,
        fold: int,
    ) -> None:
        super().__init__()
        self.model, self.samples, self.session = model, samples, session
        self.optimiser, self.loss, self.draw = optimiser, loss, draw
        self.epochs, self.fold = epochs, fold

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        made, schedule = self.optimiser(self.model, steps)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, index: Tensor, step: int) -> Tensor:
        index = index % len(self.samples)
        if self.draw is None:
            batch = self.samples.batch(index.numpy(force=True))
        else:
            # what is drawn is a function of seed, fold, step and process alone
            key = (self.session.seed * 1009 + self.fold) * 1_000_003 + self.global_step * 64 + self.global_rank
            batch = self.draw(self.samples, index.numpy(force=True), torch.Generator().manual_seed(key))
        samples = Batch(*self.trainer.precision_plugin.convert_input(tuple(t.to(self.device) for t in batch)))
        self.latest = samples, index
        scores = forward(self.model, samples)
        loss = self.loss(scores, samples.y)
        if not bool(loss.isfinite()):
            raise self._not_finite("the loss")
        truth = samples.y if samples.y.ndim == 1 else samples.y.argmax(1)  # mixed samples have shares of classes
        hits = (scores.argmax(1) == truth).float().mean()
        self.log_dict(
            {"train loss": loss, "train accuracy": hits},
            on_step=False,
            on_epoch=True,
            batch_size=len(samples.y),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: Batch, step: int) -> None:
        samples = Batch(*batch)
        scores = forward(self.model, samples)
        hits = (scores.argmax(1) == samples.y).float().mean()
        values = {"test loss": cross_entropy(scores, samples.y), "test accuracy": hits}
        self.log_dict(values, batch_size=len(samples.y), sync_dist=True)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.session.precision.startswith("16"):
            return  # the gradient scaler skips steps whose gradients overflow
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
                raise self._not_finite(f"the gradient of {name!r}")

    def _not_finite(self, where: str) -> NonFinite:
        where = _first_bad(self.model, *self.latest) or where
        return NonFinite(
            f"{where}: expected finite numbers, got NaN or Inf in epoch {self.current_epoch + 1}. "
            "Lower the learning rate, or look at that sample. The last good weights are kept."
        )


class _Record(lightning.Callback):
    """Writes every epoch's row and weights, moves the progress bar, and stops when asked."""

    def __init__(self, rows: Path, weights: Path, progress: Progress | None, label: str) -> None:
        self.rows, self.weights, self.progress, self.label = rows, weights, progress, label

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if self.progress is not None and trainer.is_global_zero:
            total = module.epochs * trainer.num_training_batches
            self.task = self.progress.add_task(self.label, total=total, result="")

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.progress is not None and trainer.is_global_zero:
            self.progress.advance(self.task)
        if module.session.stop.is_set():
            self._keep(module)
            raise _Stopped

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"fold": module.fold, "epoch": trainer.current_epoch + 1, **values}) + "\n")
        self._keep(module)
        if self.progress is not None:
            text = f"loss {values['train loss']:.3f}  accuracy {values['train accuracy']:.3f}  test {values['test accuracy']:.3f}"
            self.progress.update(self.task, result=text)

    def _keep(self, module: Any) -> None:
        tensors = module.model.state_dict()
        if all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point()):
            save(tensors, self.weights)


def bar(session: Session) -> Progress:
    """The live progress bar of a session: what is trained, how far, loss and accuracy, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[result]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return Progress(*columns, disable=not session.progress)


def _indices(count: int, batch: int, seed: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(torch.arange(count)), batch, shuffle=True, generator=generator, collate_fn=_joined)


def _joined(items: list[tuple[Tensor]]) -> Tensor:
    return torch.stack([item for (item,) in items])


def _batches(samples: Samples, batch: int) -> DataLoader[Any]:
    def collate(items: list[tuple[Tensor]]) -> Batch:
        return samples.batch(_joined(items).numpy())

    return DataLoader(TensorDataset(torch.arange(len(samples))), batch, collate_fn=collate)


def _first_bad(model: nn.Module, batch: Batch, index: Tensor) -> str | None:
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
            forward(model, batch)
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
