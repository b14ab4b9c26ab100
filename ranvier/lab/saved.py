"""A finished run as something to use: its network, its weights and how it reads files; its data may be gone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.discovery import find
from ranvier.core.files import load
from ranvier.core.running import run
from ranvier.data.folder import Format, read_file, read_labelled
from ranvier.data.samples import Samples
from ranvier.lab.recipe import Recipe

_DAMAGED = "It is damaged: copy it anew, or run again."


@dataclass(frozen=True)
class SavedRun:
    """A run's network with the weights it ended with, in eval mode on the CPU."""

    folder: Path
    facts: dict[str, Any]
    recipe: Recipe
    model: nn.Module
    format: Format | None
    """How files are read, for a recipe that was trained on a folder."""
    fold: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.facts["classes"])

    @torch.no_grad()
    def probabilities(self, samples: Samples, batch: int = 64) -> Tensor:
        """Probabilities [samples, classes], the softmax of the network's scores.

        Raises: Refusal where the network can't take such samples.
        """
        parts = []
        for b in samples.batches(batch):
            ragged = bool((b.lengths < len(b.x)).any())
            try:
                scores, _ = run(self.model, b.x, lengths=b.lengths if ragged else None)
            except RuntimeError as why:
                do = "Give data of the shape that this run was trained on."
                raise Refusal("samples", expected="what the network takes", got=str(why), do=do) from None
            parts.append(scores.float().softmax(1))
        return torch.cat(parts) if parts else torch.zeros(0, len(self.classes))

    def predict(self, file: str | Path) -> Tensor:
        """Probabilities [classes] for one file, read as those that the run was trained on.

        Raises: Refusal for a run of a recipe with data of its own, and for files that can't be read so; NonFinite.
        """
        if self.format is None:
            do = f"Judge it with: ranvier evaluate {self.folder}"
            got = f"a run of {self.facts['recipe']}, which knows no files"
            raise Refusal(str(self.folder), expected="a run of one's own recordings", got=got, do=do)
        x = read_file(file, self.format)
        return self.probabilities(Samples([x], np.zeros(1, dtype=np.int64), self.classes))[0]

    def judged_on(self) -> Samples:
        """The test samples of the run itself.

        Raises: Refusal where they are no longer there.
        """
        place = self.facts["settings"].get("data")
        if self.format is None or not place:
            samples: Samples = self.recipe.data(self.fold).test
            return samples
        wanted = list(_json(self.folder / "split.json").get("test", {}).values())
        folder = read_labelled(place, self.format)
        mine = np.isin(folder.digests, wanted)
        if mine.sum() < len(wanted):
            do = "Restore it, or name another folder of labelled recordings."
            raise Refusal(place, expected=f"{len(wanted)} test recordings", got=f"{mine.sum()}", do=do)
        return folder.samples.take(mine)

    def samples(self, data: str) -> tuple[Samples, np.ndarray]:
        """What `data` names, and which of these the run was trained on.

        NAME:SPLIT is of a data set, such as digits:test; of these it is not known what was trained on. Else it is a
        folder of labelled recordings, which are known by their contents.

        Raises: Refusal for any other text, and for classes that the run does not have.
        """
        name, colon, split = data.partition(":")
        if colon and not Path(data).exists():
            samples = find("data set", name, "ranvier.data.sets", "dataset").load()().load(split)
            return self._renumbered(samples, data), np.zeros(len(samples), dtype=bool)
        if self.format is None:
            do = "Write NAME:SPLIT, such as digits:test; or nothing, for what the run was judged on."
            raise Refusal(data, expected="a data set's split", got="another text", do=do)
        folder = read_labelled(data, self.format)
        known = _json(self.folder / "split.json").get("train", {}).values()
        return folder.samples, np.isin(folder.digests, list(known))

    def _renumbered(self, samples: Samples, name: str) -> Samples:
        if missing := [c for c in samples.classes if c not in self.classes]:
            do = f"The classes of this run are {', '.join(self.classes)}."
            raise Refusal(name, expected="known classes", got=", ".join(missing[:5]), do=do)
        number = np.array([self.classes.index(c) for c in samples.classes])
        return Samples(samples.x, number[samples.y], self.classes, samples.group, samples.channels, samples.rate)


def load_run(folder: str | Path, fold: int = 0) -> SavedRun:
    """The finished run in `folder`, with the weights of one of its folds.

    Raises: Refusal for a folder that is no run, a run that did not finish, damaged files, and weights that the recipe of
    today does not fit.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        do = "Give the folder that `ranvier run` named, such as runs/classify/2026-01-31_12-00-00."
        raise Refusal(str(folder), expected="a run's folder", got="no run.json there", do=do)
    facts = _json(path)
    if not {"recipe", "settings", "status"} <= facts.keys():
        raise Refusal(str(path), expected="what a run writes", got="something else", do=_DAMAGED)
    if facts["status"] != "finished":
        do = f"Finish it with: ranvier run {facts['recipe']} --resume {folder}"
        raise Refusal(str(folder), expected="a finished run", got=f"one that is {facts['status']}", do=do)
    if not facts.get("classes"):
        do = "Read its run.json, or load its weights with ranvier.load."
        raise Refusal(str(folder), expected="a run that tells classes apart", got=f"one of {facts['recipe']}", do=do)
    settings, format = dict(facts["settings"]), None
    if "data" in settings:
        place = folder / "format.json"
        if not place.is_file():
            raise Refusal(str(place), expected="the format that the run wrote", got="none", do=_DAMAGED)
        format = Format.of(_json(place))
        settings["data"] = str(place)
    function = find("recipe", facts["recipe"], "ranvier.recipes").load()
    do = f"Check out commit {facts.get('commit', 'of that run')}, or run again."
    try:
        recipe: Recipe = function(**settings)
    except TypeError as why:
        raise Refusal(f"recipe {facts['recipe']}", expected="the run's settings", got=str(why), do=do) from None
    weights = folder / "weights" / f"network-{fold}.safetensors"
    if not weights.is_file():
        there = ", ".join(p.stem.removeprefix("network-") for p in sorted(weights.parent.glob("network-*.safetensors")))
        do = f"There are folds {there}." if there else _DAMAGED
        raise Refusal(str(weights), expected="the weights of that fold", got="none", do=do)
    with torch.random.fork_rng(devices=[]):
        model = recipe.model()
    try:
        model.load_state_dict(load(weights))
    except RuntimeError as why:
        got = " ".join(str(why).split())[:300]
        raise Refusal(str(weights), expected="the weights of today's recipe", got=got, do=do) from None
    return SavedRun(folder, facts, recipe, model.eval(), format, fold)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError
    except (OSError, ValueError):
        raise Refusal(str(path), expected="what a run writes", got="something else", do=_DAMAGED) from None
    return found
