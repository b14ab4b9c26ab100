import json
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ranvier.core.checks import Refusal
from ranvier.core.files import write_json
from ranvier.data.augment_recordings import random_crops
from ranvier.data.folder import Folder, Format, fitted, read_folder
from ranvier.data.samples import Split
from ranvier.data.sets.smartwatch import Smartwatch
from ranvier.data.split import stratified
from ranvier.lab.classify import Classify
from ranvier.lab.logistic import logistic_regression
from ranvier.lab.recipe import Claim, Recipe, Result, Session
from ranvier.models.recordings import artificial, spiking

DRAWN = 640  # samples drawn in an epoch, at least: few recordings are shown several times


def classify(
    data: str = "", epochs: int = 30, batch: int = 32, lr: float = 5e-3, width: int = 96, smoke: bool = False
) -> Recipe:
    """One's own recordings, one folder per class, told apart by a spiking network.

    `data` is a folder of FOLDER/CLASS/recording.{csv,npy,npz,wav,bin,dat,raw,aedat,aedat4}. A fifth of each class's
    recordings, by a fixed draw, is kept for testing. Signals and the mel bands of sounds go through two layers of LIF
    neurons, events of cameras through two spiking convolutions. Beside it a GRU or CNN of equal size trained the same
    way, and logistic regression on each feature's mean and spread. Own data come without claims.
    """
    saved = data.endswith(".json")  # the format that a run kept: enough for its network, without its data

    @cache
    def folder() -> Folder:
        if smoke and (saved or not data):
            watch = Smartwatch().load("test0")
            watch = replace(watch, x=[fitted(x, 12) for x in watch.x])
            form = Format("signal", watch.classes, watch.channels, watch.rate, pool=12)
            return Folder(watch, form, tuple(f"recording {i}" for i in watch.group), ("",) * len(watch))
        if saved or not data:
            do = "Write: ranvier run classify --data FOLDER"
            raise Refusal(
                "data", expected="a folder with a folder of recordings for each class", got=data or "none", do=do
            )
        return read_folder(data)

    @cache
    def form() -> Format:
        return Format.of(json.loads(Path(data).read_text(encoding="utf-8"))) if saved else folder().format

    @cache
    def parts() -> tuple[np.ndarray, ...]:
        return stratified(folder().samples)

    def network(make: Any) -> nn.Module:
        model: nn.Sequential = make(form().shape, form().pool, len(form().classes), width)
        if not saved:
            model[0].learn(folder().samples.take(parts()[0]).x)  # type: ignore[operator]
        return model

    def fit(recipe: Recipe, session: Session) -> Result:
        files, sums = folder().files, folder().digests
        names = ("train", "test")
        split = {name: {files[i]: sums[i] for i in part} for name, part in zip(names, parts(), strict=True)}
        path = session.folder / "split.json"
        if session.resume and path.exists() and json.loads(path.read_text(encoding="utf-8")) != split:
            do = "Restore them, or start a new run without --resume."
            raise Refusal(f"--resume with {data}", expected="the recordings of the run", got="others", do=do)
        write_json(session.folder / "format.json", form().entries())
        write_json(path, split)
        return Classify(
            epochs=4 if smoke else epochs,
            batch=batch,
            learning_rate=lr,
            weight_decay=0.05,
            label_smoothing=0.1,
            draw=partial(random_crops, pool=form().pool),
            repeats=-(-(160 if smoke else DRAWN) // len(parts()[0])),
            networks={} if smoke else {f"{_beside(form())} of equal size": partial(network, artificial)},
            baselines={"logistic regression": logistic_regression},
        )(recipe, session)

    return Recipe(
        model=partial(network, spiking),
        data=lambda fold: Split(*(folder().samples.take(part) for part in parts())),
        fit=fit,
        claims=(Claim("accuracy", ">=", 0.3, "smoke size: twice chance"),) if smoke else (),
        source="network of our own",
        seeds=(0,) if smoke else (0, 1, 2),
    )


def _beside(form: Format) -> str:
    return "CNN" if len(form.shape) == 3 else "GRU"
