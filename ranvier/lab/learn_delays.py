"""The fit of networks whose synapses learn delays: beside delays that chance fixed, and none; and rounded for use."""

import logging
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ranvier.core.checks import MissingData
from ranvier.data.lazy import Mapped
from ranvier.data.samples import Samples, Split
from ranvier.data.sets._recorded import Recorded
from ranvier.data.sets.spoken_digits import SpokenDigits
from ranvier.data.sound import log_mel
from ranvier.lab.classify import Classify, said
from ranvier.lab.recipe import Claim, Recipe, Result, Session
from ranvier.models.delays import delayed_network, narrow, rounded, two_rates
from ranvier.nn.coding.delta import DeltaEncoder
from ranvier.nn.synapses.delayed_linear import DelayedLinear

BANDS, _RATE, _THRESHOLD = 40, 8000, 0.5

ORDER = (
    Claim("accuracy", ">=", 0.0, "the paper's ordering", beside="fixed delays: accuracy"),
    Claim("fixed delays: accuracy", ">=", 0.0, "the paper's ordering", beside="no delays: accuracy"),
    Claim("accuracy", ">=", 0.02, "our own target", beside="no delays: accuracy"),
    Claim("rounded: accuracy", ">=", -0.01, "our own target", beside="accuracy"),
    Claim("error of a rounded delay", "<=", 0.0, "theory"),
)


@dataclass(frozen=True)
class LearnDelays:
    """Adam with one cycle for weights and a cosine for delays, while the kernels become narrow; then every delay whole.

    Metrics: those of Classify for the network, "fixed delays" and "no delays"; "rounded: accuracy" of the network with
    whole delays; "error of a rounded delay", the largest difference between when and how strongly a single spike
    arrives through its first layer and what its weights and delays say. Where the data are not on this machine, the
    last of these and "parameters" are all.

    Source: Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024.
    """

    sizes: tuple[int, int, int]
    """inputs, neurons in a hidden layer, classes"""
    epochs: int
    batch: int
    options: dict[str, Any]
    """of `models.delays.delayed_network`"""
    lr: float = 1e-3
    most: float = 5e-3
    delay_lr: float = 0.1
    repeats: int = 1
    alone: bool = False
    """without the networks beside it"""

    def network(self, **changes: Any) -> nn.Module:
        """A fresh network."""
        return delayed_network(*self.sizes, **{**self.options, **changes})

    def __call__(self, recipe: Recipe, session: Session) -> Result:
        from ranvier.lab.training import predict  # Lightning takes seconds to import

        checks = _checks(recipe.model())
        try:
            test = recipe.data(0).test
        except MissingData as missing:
            logging.getLogger("ranvier").warning("%s Until then accuracies are not run.", missing)
            return Result(metrics=checks)
        others = {"fixed delays": "fixed", "no delays": "none"}
        fit = Classify(
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.lr,
            optimiser=partial(two_rates, self.lr, self.most, self.delay_lr),
            each_epoch=partial(narrow, self.epochs),
            repeats=self.repeats,
            networks={} if self.alone else {k: partial(self.network, delays=v) for k, v in others.items()},
        )
        result = fit(recipe, session)
        if result.model is not None and not result.interrupted:
            scores = predict(rounded(result.model), test)
            result.metrics |= {"rounded: accuracy": float(np.mean(said(scores) == test.y)), **checks}
        return result


def _checks(network: nn.Module) -> dict[str, float]:
    layer = next(m for m in rounded(network).modules() if isinstance(m, DelayedLinear))
    when, steps = layer.delays(), layer.max_delay + 1
    spike = torch.zeros(steps, 1, layer.in_features)
    spike[0, 0, 0] = 1
    arrived = layer(spike)[:steps, 0].detach()
    expected = torch.zeros(steps, layer.out_features).scatter(0, when[None, :, 0], layer.weight.detach()[None, :, 0])
    return {
        "error of a rounded delay": float((arrived - expected).abs().max()),
        "parameters": float(sum(p.numel() for p in network.parameters())),
    }


def of_a_cochlea(kind: type[Recorded], fit: LearnDelays, claim: Claim, smoke: bool) -> Recipe:
    """The recipe of a set of spoken words as spikes of 700 channels; at smoke size of a few spoken digits in its place."""
    few = replace(fit, sizes=(2 * BANDS, 32, 10), epochs=2, batch=10, repeats=30, alone=True)

    def part(split: str) -> Samples:
        if smoke:
            return mel_spikes(split, smoke=True)
        whole = kind().load(split)
        return replace(whole, x=Mapped(whole.x, _pooled))

    chosen = few if smoke else fit
    return Recipe(
        model=chosen.network,
        data=lambda fold: Split(part("train"), part("test")),
        fit=chosen,
        claims=(Claim("accuracy", ">=", 0.15, "smoke size: above chance"),) if smoke else (claim, *ORDER),
        source="Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024",
        seeds=(0,) if smoke else (0, 1, 2),
    )


@cache
def mel_spikes(split: str, smoke: bool = False) -> Samples:
    """Spoken digits as spikes [T, 2 bands] every 10 ms: where a band's log power has risen by 0.5, and where it has fallen."""
    sounds = SpokenDigits().smoke(split) if smoke else SpokenDigits().load(split)
    encode, found = DeltaEncoder(_THRESHOLD), []
    for sound in sounds.x:
        moved = encode(torch.from_numpy(log_mel(sound[:, 0], _RATE, BANDS))[:, None])[:, 0].numpy()
        found.append(np.concatenate([moved > 0, moved < 0], 1).astype(np.float32))
    return replace(sounds, x=found, channels=(), rate=100.0)


def _pooled(x: np.ndarray) -> np.ndarray:
    """The 700 channels of a cochlea [T, 700] as sums of five neighbours [T, 140]."""
    y: np.ndarray = x.reshape(len(x), 140, 5).sum(2)
    return y
