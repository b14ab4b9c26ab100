from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ranvier.data.samples import Batch, Samples, Split
from ranvier.data.sets.moving_images import MovingImages
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.folds import adamw, trained
from ranvier.lab.recipe import Claim, Recipe, Result, Session
from ranvier.models.motion import by_events, mirrored, motion_network, strongest, with_kernel, without_delays
from ranvier.nn.synapses.delayed_conv import DelayedConv2d

MOTIONS, LONGEST, HALF = len(MovingImages.classes), 11, 4


def motion_delays(lr: float = 5e-3, epochs: int = 16, batch: int = 32, smoke: bool = False) -> Recipe:
    """One layer of neurons that read motion from delays: natural images in eight directions at two speeds, as events.

    A neuron for each motion has a weight for each polarity, delay and offset, 12 delays and 9x9 pixels within a cone;
    logistic regression wherever an event has just come, and the mean probability there decides. (At places without one
    there is nothing to learn for a linear readout: every motion brings each pixel as many events on average. The mean
    of the evidence itself, which is linear, tells as little.) Beside it, without training again: all delays made 0, the
    largest 5 % of weights, 5 % at random, and the same evidence summed up event by event.
    """

    fit = partial(_fit, lr, 2 if smoke else epochs, 8 if smoke else batch, 16 if smoke else 1)
    full = (
        Claim("accuracy", ">=", 0.85, "our own target"),
        Claim("no delays: accuracy", "<=", 0.30, "our own target"),
        Claim("largest 5 %: accuracy", ">=", -0.03, "our own target", beside="accuracy"),
        Claim("random 5 %: accuracy", "<=", -0.20, "our own target", beside="accuracy"),
        Claim("mirrored kernels: correlation", ">=", 0.5, "our own target"),
        Claim("event by event: error", "<=", 1e-5, "theory"),
    )
    return Recipe(
        model=partial(motion_network, MOTIONS, max_delay=LONGEST),
        data=lambda fold: Split(_movies("train", smoke), _movies("test", smoke)),
        fit=fit,
        claims=(Claim("accuracy", ">=", 0.1, "smoke size: above chance"), full[-1]) if smoke else full,
        source="Grimaldi and Perrinet, Biological Cybernetics 2023",
        seeds=(0,) if smoke else (0, 1, 2),
    )


@cache
def _movies(split: str, smoke: bool) -> Samples:
    found = MovingImages().smoke(split) if smoke else MovingImages().load(split)
    return replace(found, x=[x.astype(np.uint8) for x in found.x])


def _evidence(model: nn.Module, batch: Batch) -> Tensor:
    """[B, motions + 1, places and times], from when the longest delay has passed: log-odds, and whether an event has come."""
    y: Tensor = model(batch.x)[LONGEST:]
    inside = slice(HALF, batch.x.shape[3] - HALF, 2)  # where the windows' centres lie
    come = (batch.x[LONGEST:, :, :, inside, inside].sum(2, keepdim=True) > 0).to(y.dtype)
    return torch.cat([y, come], 2).permute(1, 2, 0, 3, 4).flatten(2)


def _loss(found: Tensor, y: Tensor) -> Tensor:
    evidence, come = found[:, :-1], found[:, -1]
    each = cross_entropy(evidence, y[:, None].expand_as(come), reduction="none")
    return ((each * come).sum(1) / come.sum(1).clamp_min(1)).mean()


def _accuracy(found: Tensor, y: Tensor) -> Tensor:
    return ((found[:, :-1].softmax(1) * found[:, -1:]).sum(2).argmax(1) == y).float().mean()


def _fit(lr: float, epochs: int, batch: int, repeats: int, recipe: Recipe, session: Session) -> Result:
    from ranvier.lab.training import Task, bar, predict

    split, task = recipe.data(0), Task("accuracy", _evidence, _loss, _accuracy)
    seed_all(session.seed)
    model, optimiser = cast(DelayedConv2d, recipe.model()), partial(adamw, lr, 0.0, 0.1)
    with bar(session) as progress:
        options: dict[str, Any] = {"epochs": epochs, "batch": batch, "repeats": repeats, "progress": progress}
        one = trained(model, split, session, task, name="network", fold=0, optimiser=optimiser, loss=_loss, **options)
    result = Result({}, one.rows, split.test.classes, seconds={"training": one.times["seconds"]}, model=model)
    result.waiting, result.interrupted = one.times, one.scores is None
    if one.scores is None:
        return result
    truth, kernel = torch.from_numpy(split.test.y), model.kernel().detach()
    fewer = {"largest 5 %": None, "random 5 %": torch.Generator().manual_seed(session.seed)}
    kernels = {"no delays": without_delays(kernel), **{k: strongest(kernel, 0.05, g) for k, g in fewer.items()}}
    found = {k: predict(with_kernel(model, other), split.test, task=task) for k, other in kernels.items()}
    movie = split.test.batch([0]).x
    result.metrics = {
        "accuracy": float(_accuracy(one.scores, truth)),
        **{f"{name}: accuracy": float(_accuracy(evidence, truth)) for name, evidence in found.items()},
        "mirrored kernels: correlation": mirrored(kernel.cpu(), [0, 1], [8, 9]),
        "event by event: error": float((by_events(model.cpu(), movie) - model(movie).detach()).abs().max()),
    }
    return result
