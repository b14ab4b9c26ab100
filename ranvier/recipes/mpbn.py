import statistics
import time
from functools import partial

import numpy as np
import torch
from torch import nn

import ranvier
from ranvier.data.samples import Split
from ranvier.data.sets.fashion_mnist import FashionMNIST
from ranvier.lab.classify import Classify
from ranvier.lab.recipe import Claim, Recipe, Result, Session
from ranvier.nn.norms.fold_norms import fold_norms
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.normalised import Normalised
from ranvier.nn.norms.threshold_batch_norm import ThresholdBatchNorm

WITHOUT = "without MPBN"
RATIO = "folded: seconds / those of the net without"


def mpbn(lr: float = 1e-2, epochs: int = 4, batch: int = 128, steps: int = 4, smoke: bool = False) -> Recipe:
    """Fashion-MNIST by a spiking convolutional net whose membranes are normalised before they meet the threshold.

    Two convolutions with batch norm and LIF neurons that keep a quarter of their membrane, over `steps` steps of the
    same picture; the mean of a linear readout is the score. Beside it: the same without membrane norms. The trained net
    is folded for inference, and what it answers and how long it takes is compared too. The paper's nets are ResNets
    trained for 400 epochs; decided here: its surrogate without the clamp, AdamW, biases that begin at 0.
    """
    data = FashionMNIST()
    part = data.smoke if smoke else data.load
    fit = Classify(
        epochs=20 if smoke else epochs,
        batch=5 if smoke else batch,
        learning_rate=lr,
        weight_decay=0.01,
        warmup=0.2,
        networks={WITHOUT: partial(_network, steps, False)},
    )
    return Recipe(
        model=partial(_network, steps, True),
        data=lambda fold: Split(part("train"), part("test")),
        fit=partial(_fit, fit, steps, 0 if smoke else 40),
        claims=(Claim("accuracy", ">=", 0.3, "smoke size: three times chance"),)
        if smoke
        else (
            Claim("accuracy", ">=", 0.0, "our own target", beside=f"{WITHOUT}: accuracy"),
            Claim("loss after 1 epoch", "<=", 0.0, "our own target", beside=f"{WITHOUT}: loss after 1 epoch"),
            Claim("answers changed by folding", "<=", 0.001, "theory"),
            Claim(RATIO, "<=", 1.02, "our own target"),
        ),
        source="Guo et al. 2023 (MPBN); Xiao, Rasul and Vollgraf 2017 (data)",
        seeds=(0,) if smoke else (0, 1, 2),
    )


def _network(steps: int, membranes: bool) -> nn.Module:
    norm = partial(ThresholdBatchNorm, alpha=4 / 3)  # the neurons take 3/4 of their input, the paper's all of it

    def neurons(norm: ThresholdBatchNorm | None, channels: int) -> nn.Module:
        # the slope of the paper's tanh(3 u)
        lif = ranvier.LIF(tau=4 / 3, threshold=0.5, surrogate=ranvier.Sigmoid(width=0.5876, scale=1.1048))
        return Normalised(norm, lif, membrane=MembraneBatchNorm(channels) if membranes else None)

    return nn.Sequential(
        *(ranvier.Conv2d(1, 32, 5, stride=2, padding=2, bias=False), norm(32), ranvier.Direct(steps)),
        neurons(None, 32),
        ranvier.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        neurons(norm(64), 64),
        *(nn.Flatten(2), ranvier.Linear(64 * 7 * 7, 10), ranvier.RateDecoder()),
    )


def _fit(classify: Classify, steps: int, rounds: int, recipe: Recipe, session: Session) -> Result:
    from ranvier.lab.recording import Place  # Lightning takes seconds to import

    result = classify(recipe, session)
    if result.interrupted or result.model is None:
        return result
    for prefix, name in (("", "network"), (f"{WITHOUT}: ", WITHOUT)):
        result.metrics[f"{prefix}loss after 1 epoch"] = Place(session.folder, name, 0).written()[0]["train loss"]
    test = recipe.data(0).test
    x = test.take(np.arange(min(len(test), 1000))).batch().x
    net, folded, other = result.model.eval(), fold_norms(result.model), fold_norms(_network(steps, False))

    def seconds(net: nn.Module) -> float:
        start = time.perf_counter()
        net(x[:, :128])
        return time.perf_counter() - start

    with torch.no_grad():
        changed = net(x).argmax(1) != folded(x).argmax(1)
        result.metrics["answers changed by folding"] = changed.double().mean().item()
        if rounds:
            result.metrics[RATIO] = statistics.median(seconds(folded) / seconds(other) for _ in range(rounds))
    return result
