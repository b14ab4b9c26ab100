from functools import partial

import numpy as np
from torch import nn

import ranvier
from ranvier.data.samples import Split
from ranvier.data.sets.fashion_mnist import FashionMNIST
from ranvier.lab.anytime import Anytime
from ranvier.lab.exits import by_confidence
from ranvier.lab.recipe import Claim, Recipe


def dynamic_confidence(
    lr: float = 1e-2, epochs: int = 2, batch: int = 128, steps: int = 16, tolerance: float = 0.0, smoke: bool = False
) -> Recipe:
    """Fashion-MNIST by a spiking network that stops as soon as its confidence is above one calibrated threshold.

    A convolution sees the static image once; its normalised currents go through LIF neurons for up to `steps` steps, a
    second convolution, LIF neurons and a linear readout whose outputs add up to the scores. Temperature and threshold
    are chosen on 10,000 training images that are not learnt from. Decided here: the temperature is that of the
    likeliest labels at the last step, and training weighs every step alike (temporal efficient training).
    """
    data = FashionMNIST()
    part = data.smoke if smoke else data.load

    def validation(fold: int) -> Split:
        train = part("train")
        order = np.random.default_rng(0).permutation(len(train))
        return Split(train.take(order[len(train) // 6 :]), train.take(order[: len(train) // 6]))

    theory = (
        Claim("answers changed at threshold 1", "<=", 0.0, "theory"),
        Claim("mean steps at threshold 1", ">=", steps, "theory"),
        Claim("mean steps at threshold 0", "<=", 1.0, "theory"),
        Claim("least steps that a higher threshold adds", ">=", 0.0, "theory"),
        Claim("oracle: accuracy", ">=", 0.0, "theory", beside="accuracy"),
        Claim("oracle: share of the steps", "<=", 1.0, "theory"),
    )
    full = (
        Claim("early exit: share of the steps", "<=", 0.6, "the paper's scale"),
        Claim("early exit: accuracy", ">=", -0.002, "the paper's scale", beside="accuracy"),
        Claim("change of accuracy when the threshold moves by 0.1", "<=", 0.005, "the paper's claim of robustness"),
    )
    return Recipe(
        model=partial(_network, steps),
        data=lambda fold: Split(part("train"), part("test")),
        fit=Anytime(
            epochs=20 if smoke else epochs,
            batch=5 if smoke else batch,
            learning_rate=lr,
            judge=partial(by_confidence, tolerance=tolerance),
            weight_decay=0.01,
            warmup=0.2,
        ),
        claims=(*theory, *((Claim("accuracy", ">=", 0.3, "smoke size: three times chance"),) if smoke else full)),
        source="Li, Jones and Furber, ICCV 2023; Xiao, Rasul and Vollgraf 2017 (data)",
        seeds=(0,) if smoke else (0, 1, 2),
        validation=validation,
    )


def _network(steps: int) -> nn.Module:
    def neuron() -> nn.Module:
        return ranvier.LIF(tau=2.0, threshold=0.5, surrogate=ranvier.Arctan(width=1.0))

    return nn.Sequential(
        *(ranvier.Conv2d(1, 16, 5, stride=2, padding=2, bias=False), ranvier.BatchNorm(16), ranvier.Direct(steps)),
        neuron(),
        *(ranvier.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), ranvier.BatchNorm(32), neuron()),
        *(nn.Flatten(2), ranvier.Linear(32 * 7 * 7, 10)),
    )
