"""How many CPU threads train a recipe's network fastest: measured once for each recipe and machine."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from threading import Event
from time import perf_counter
from typing import Any

import torch

from ranvier.core.files import write_json
from ranvier.data.cache import cache_folder
from ranvier.lab.checkpoint import random_states, restore_random
from ranvier.lab.machine import hardware
from ranvier.lab.recipe import Recipe, Session

_BATCHES = 4
"""Batches with one number of threads before the other has its turn; the first of them warms up and does not count."""
_SECONDS = 5.0
"""After this long what was measured has to do."""
_GAIN = 0.9
"""More threads than one have to take at most this share of its time: they cost the machine's other work more."""


@dataclass(frozen=True)
class Choice:
    """A number of threads, and the seconds of a training batch with each number that was tried."""

    threads: int
    seconds: Mapping[int, float]
    earlier: bool = False
    """Measured in an earlier run."""

    def __str__(self) -> str:
        tried = ", ".join(f"{1000 * s:.1f} ms with {n} thread{'s' * (n > 1)}" for n, s in self.seconds.items())
        return f"Threads: {self.threads} (a training batch takes {tried}{'; measured earlier' if self.earlier else ''})"


def choose(name: str, recipe: Recipe, settings: Mapping[str, Any], session: Session) -> Choice | None:
    """The number of threads for a recipe on this machine, measured when it is not known; None where there is no choice.

    There is none for smoke sizes, with a single core (or OMP_NUM_THREADS=1), on an accelerator and for several processes:
    then one thread is right.
    """
    most = _most()
    if settings.get("smoke") or most == 1 or not _on_cpu(session):
        return None
    machine = {**hardware(), "threads": most, "torch": torch.__version__}
    about = {"recipe": name, "settings": dict(settings), "precision": session.precision, "machine": machine}
    digest = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "threads" / f"{name}-{digest[:16]}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Choice(kept["threads"], {int(n): s for n, s in kept["seconds"].items()}, earlier=True)
    except (OSError, ValueError, KeyError):
        pass
    choice = measure(recipe, session, (1, most))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"threads": choice.threads, "seconds": choice.seconds, **about})
    except OSError:  # measured again next time
        pass
    return choice


def measure(recipe: Recipe, session: Session, numbers: tuple[int, ...]) -> Choice:
    """Train for some batches with each number of threads, in a folder that is thrown away.

    It is the recipe's own fit, stopped: what a batch costs to make counts, and whether the next one is made meanwhile.
    The random states and the number of threads are as before when this returns.
    """
    before, states = torch.get_num_threads(), random_states()
    stop = _Taking(numbers)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trial = replace(session, folder=Path(folder), progress=False, stop=stop, every=float("inf"), loggers=(), on_epoch=None)  # fmt: skip
            torch.set_num_threads(numbers[0])
            recipe.fit(recipe, trial)
    finally:
        torch.set_num_threads(before)
        restore_random(states)
    return stop.choice()


class _Taking(Event):
    """A session's stop, which training asks after every batch: it takes the time since, and says when that is enough."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        super().__init__()
        self.plan = [n for n in (*numbers, *numbers) for _ in range(_BATCHES)]
        self.seconds: dict[int, list[float]] = {n: [] for n in numbers}
        self.asked = 0
        self.begun = self.last = perf_counter()

    def is_set(self) -> bool:
        if super().is_set():
            return True
        now = perf_counter()
        if self.asked % _BATCHES:
            self.seconds[self.plan[self.asked]].append(now - self.last)
        self.asked += 1
        if self.asked == len(self.plan) or (all(self.seconds.values()) and now - self.begun > _SECONDS):
            self.set()
        else:
            torch.set_num_threads(self.plan[self.asked])
        self.last = perf_counter()
        return super().is_set()

    def choice(self) -> Choice:
        found = {n: median(s) for n, s in self.seconds.items() if s}
        one = found.get(1, float("inf"))
        return Choice(
            min((n for n in found if n == 1 or found[n] <= _GAIN * one), key=found.__getitem__, default=1), found
        )


def _most() -> int:
    """As many threads as may be used: one a core of this process, or fewer where the environment says so."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(said)) if said.isdecimal() and int(said) else cores


def _on_cpu(session: Session) -> bool:
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    alone = session.devices in ("auto", 1, "1")
    return alone and (session.accelerator == "cpu" or (session.accelerator == "auto" and not accelerated))
