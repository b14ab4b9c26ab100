"""What training leaves on disk while it goes on: a row and the weights each epoch, and checkpoints to resume from."""

import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from rich.progress import Progress

from ranvier.core.checks import Refusal
from ranvier.core.files import save, write_json, write_text
from ranvier.lab import checkpoint as files
from ranvier.lab.checkpoint import random_states, restore_random
from ranvier.lab.recipe import Session

_SHARE = 50
"""An epoch ends with a checkpoint only after this many times what the last one took, which bounds the cost to 2 %."""


class Stopped(Exception):
    """The user asked to stop."""


@dataclass(frozen=True)
class Place:
    """Where the files of one network in one fold lie."""

    folder: Path
    name: str
    fold: int

    @property
    def stem(self) -> str:
        return f"{self.name.lower().replace(' ', '-')}-{self.fold}"

    @property
    def weights(self) -> Path:
        return self.folder / "weights" / f"{self.stem}.safetensors"

    @property
    def rows(self) -> Path:
        return self.folder / "curves" / f"{self.stem}.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / f"{self.stem}.safetensors"

    @property
    def times(self) -> Path:
        return self.folder / "checkpoints" / f"{self.stem}.json"

    @property
    def finished(self) -> Path:
        """What this network said of the fold's test samples, once it is trained."""
        return self.folder / "finished" / f"{self.stem}.safetensors"

    def begin(self, resume: bool) -> bool:
        """Make the folders; whether to go on from a checkpoint. What lies there without one is removed."""
        for file in (self.weights, self.rows, self.checkpoint):
            file.parent.mkdir(exist_ok=True)
        if resume and files.exists(self.checkpoint):
            return True
        for file in (self.weights, self.rows, self.times):
            file.unlink(missing_ok=True)
        files.remove(self.checkpoint)
        return False

    def tidy(self) -> None:
        """Remove what only an unfinished training needs."""
        files.remove(self.checkpoint)
        self.times.unlink(missing_ok=True)

    def spent(self) -> dict[str, float]:
        """Seconds of training so far that count, and of these in which it waited for data."""
        found: dict[str, float] = json.loads(self.times.read_text()) if self.times.exists() else {"seconds": 0.0}
        return found

    def written(self) -> list[dict[str, float]]:
        """One row an epoch."""
        return [json.loads(line) for line in self.rows.read_text().splitlines()] if self.rows.exists() else []


class Files(CheckpointIO):
    """Lightning's checkpoints as safetensors instead of pickles."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: object = None) -> None:
        """As `checkpoint.write`, the one before kept."""
        files.write(checkpoint, Path(path), keep=True)

    def load_checkpoint(self, path: Any, map_location: object = None, weights_only: object = None) -> dict[str, Any]:
        """As `checkpoint.read`; its tensors lie on the CPU, from where Lightning moves them."""
        found: dict[str, Any] = files.read(Path(path))
        return found

    def remove_checkpoint(self, path: Any) -> None:
        """Delete it and the one before."""
        files.remove(Path(path))


class Record(lightning.Callback):
    """Writes every epoch's row and weights and the checkpoints, moves the progress bar, and stops when asked."""

    def __init__(self, place: Place, session: Session, progress: Progress | None, resumed: bool) -> None:
        self.place, self.session, self.progress, self.resumed = place, session, progress, resumed
        self.rows: list[dict[str, float]] = []
        self.sums = [0.0, 0.0, 0.0]
        """Of loss and right answers over the samples of this epoch, and how many these are."""
        self.started = self.kept = perf_counter()
        self.times = {"seconds": 0.0, "busy": 0.0, "waiting": 0.0}
        """Whole time, time in training batches, and that part of it in which data were waited for; before this sitting."""
        self.cost = 0.0
        self.mark: float | None = None
        self.states: list[dict[str, Any]] = []
        self.batches = 0
        """Batches of the current epoch that are done."""

    def add(self, loss: float, hits: float, count: int) -> None:
        """Take a batch into the averages of the epoch."""
        self.sums = [self.sums[0] + loss * count, self.sums[1] + hits * count, self.sums[2] + count]

    def waited(self, seconds: float) -> None:
        """Note time in which a batch was made."""
        self.times["waiting"] += seconds

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        states: list[Any] = [None] * trainer.world_size
        mine = random_states()
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(states, mine)
        else:
            states = [mine]
        checkpoint["ranvier"] = {
            "random": states,
            "rows": self.rows,
            "sums": self.sums,
            "batches": self.batches,
            "samples": module.order.count,
            "times": self._spent(),
        }

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["ranvier"]
        if kept["samples"] != module.order.count:
            raise Refusal(
                str(self.place.checkpoint),
                expected=f"the {kept['samples']} training samples an epoch that it was made with",
                got=f"{module.order.count}",
                do="Bring the data back to what they were, or start a new run.",
            )
        self.rows, self.sums, self.times = kept["rows"], kept["sums"], kept["times"]
        self.batches = module.order.skip = kept["batches"]
        self.states = kept["random"]

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if self.progress is not None and trainer.is_global_zero:
            total = module.epochs * trainer.num_training_batches
            label = f"{self.place.name} {self.place.fold + 1}"
            done = trainer.global_step
            self.task = self.progress.add_task(label, total=total, completed=done, result="")
        if self.resumed and trainer.is_global_zero:
            # rows that the checkpoint doesn't know, or half ones, come again
            write_text(self.place.rows, "".join(json.dumps(row) + "\n" for row in self.rows))
        if len(self.states) == trainer.world_size:
            restore_random(self.states[trainer.global_rank])
        self.kept = perf_counter()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.mark = perf_counter()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self.mark is not None:
            self.waited(perf_counter() - self.mark)
        else:
            self.mark = perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = perf_counter()
        self.times["busy"] += now - (self.mark or now)
        self.batches += 1
        if self.progress is not None and trainer.is_global_zero:
            self.progress.advance(self.task)
        if self.batches < trainer.num_training_batches:  # at an epoch's end its row comes first
            stop = self.session.stop.is_set()
            # processes would have to agree on the moment, which costs each batch a message
            if trainer.world_size == 1 and (stop or now - self.kept >= self.session.every):
                self._checkpoint(trainer)
            if stop:
                self._keep(module)
                raise Stopped
        self.mark = perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        sums = self.sums
        if trainer.world_size > 1:
            sums = trainer.strategy.reduce(torch.tensor(sums, device=module.device), reduce_op="sum").tolist()
        averages = {"train loss": sums[0] / sums[2], f"train {module.task.score}": sums[1] / sums[2]}
        self.sums, self.batches = [0.0, 0.0, 0.0], 0
        # Lightning's own still has the last epoch's averages
        values = averages | {k: float(v) for k, v in trainer.callback_metrics.items()} | averages
        row = {"fold": module.fold, "epoch": trainer.current_epoch + 1, **values}
        self.rows.append(row)
        module.log_dict(averages, rank_zero_only=True)  # for loggers
        if trainer.is_global_zero:
            with self.place.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            self._keep(module)
        if self.progress is not None and trainer.is_global_zero:
            score = module.task.score
            text = f"loss {values['train loss']:.3f}  {score} {values[f'train {score}']:.3f}  test {values[f'test {score}']:.3f}"
            self.progress.update(self.task, result=text)
        if self.session.on_epoch is not None and trainer.is_global_zero:
            self.session.on_epoch(self.place.name, row)
        over = len(self.rows) == module.epochs
        stop = self.session.stop.is_set() and not over
        due = stop or perf_counter() - self.kept >= _SHARE * self.cost
        if trainer.strategy.broadcast(due and not over):
            self._checkpoint(trainer)
        if over and trainer.is_global_zero:
            write_json(self.place.times, self._spent())
        if stop:
            raise Stopped

    def _checkpoint(self, trainer: Any) -> None:
        begun = perf_counter()
        trainer.save_checkpoint(self.place.checkpoint, weights_only=False)
        if trainer.is_global_zero:
            write_json(self.place.times, self._spent())
        self.kept = perf_counter()
        self.cost = self.kept - begun

    def _spent(self) -> dict[str, float]:
        return {**self.times, "seconds": self.times["seconds"] + perf_counter() - self.started}

    def _keep(self, module: Any) -> None:
        tensors = module.model.state_dict()
        if all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point()):
            save(tensors, self.place.weights)
