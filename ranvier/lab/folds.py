"""One network trained on one fold, or one baseline scored on it, and what is kept of it for a later sitting."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.lab import checkpoint
from ranvier.lab.recipe import Session

if TYPE_CHECKING:
    from ranvier.lab.training import Task


@dataclass(frozen=True)
class Trained:
    """What one network said of a fold's test part (None when it was stopped), its curve and the seconds it took."""

    scores: Tensor | None
    rows: list[dict[str, float]]
    times: dict[str, float]


def trained(
    model: nn.Module, split: Any, session: Session, task: "Task", *, epochs: int, name: str, fold: int, **options: Any
) -> Trained:
    """Train `model` in place as `training.train` does, and have it judge the test part; read instead when that is done."""
    from ranvier.core.files import load
    from ranvier.lab.recording import Place
    from ranvier.lab.training import predict, train  # Lightning takes seconds to import

    place = Place(session.folder, name, fold)
    if session.resume and (kept := _finished(place.finished)) is not None:
        if name == "network":
            model.load_state_dict(load(place.weights))
        return kept
    rows = train(model, split, session, task=task, epochs=epochs, name=name, fold=fold, **options)
    if len(rows) < epochs:
        return Trained(None, rows, place.spent())
    started = time.perf_counter()
    scores = predict(model, split[1], task=task)
    times = place.spent()
    done = Trained(scores, rows, {**times, "seconds": times["seconds"] + time.perf_counter() - started})
    checkpoint.write({"scores": scores, "rows": rows, "times": done.times}, place.finished)
    place.tidy()
    return done


def scored(baseline: Callable[[], Tensor], session: Session, name: str, fold: int) -> Trained:
    """What a baseline said of a fold's test part; read instead when that is done."""
    from ranvier.lab.recording import Place

    path = Place(session.folder, name, fold).finished
    if session.resume and (kept := _finished(path)) is not None:
        return kept
    started = time.perf_counter()
    done = Trained(baseline(), [], {"seconds": time.perf_counter() - started})
    checkpoint.write({"scores": done.scores, "rows": [], "times": done.times}, path)
    return done


def adamw(
    learning_rate: float, weight_decay: float, warmup: float, model: nn.Module, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW whose learning rate rises over the share `warmup` of the steps and then falls along a cosine."""
    # time constants, thresholds, norms and biases are not shrunk towards 0
    shrunk = [p for p in model.parameters() if p.ndim > 1]
    free = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": shrunk, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    made = torch.optim.AdamW(groups, lr=learning_rate)
    rise = warmup * steps

    def share(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (steps - rise))

    return made, torch.optim.lr_scheduler.LambdaLR(made, share)


def added(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    """The seconds of two trainings together."""
    return {k: a.get(k, 0.0) + b.get(k, 0.0) for k in ("busy", "waiting")}


def _finished(path: Path) -> Trained | None:
    """What an earlier sitting of this run kept there; None when there is nothing or it is damaged, and then it is made again."""
    if not path.exists():
        return None
    try:
        return Trained(**checkpoint.read(path))
    except Refusal as error:
        logging.getLogger("ranvier").warning("%s It is made again.", error)
        return None
