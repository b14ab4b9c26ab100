from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import ranvier
from ranvier.data.samples import Samples, Split
from ranvier.data.sets.fashion_mnist import FashionMNIST
from ranvier.lab.classify import Classify
from ranvier.lab.recipe import Claim, Recipe

FITTED = 6_000  # training images that the logistic regression sees: on all of them it takes longer than the networks


def fashion_mnist(lr: float = 1e-2, epochs: int = 6, batch: int = 128, steps: int = 2, smoke: bool = False) -> Recipe:
    """Pictures of clothes (Fashion-MNIST, 28x28 pixels) told apart by a small spiking convolutional network.

    The first convolution sees the static image once; its normalised currents are constant for `steps` steps. Then LIF
    neurons, a second convolution and LIF neurons, and a leaky integrator whose mean membrane is the score. Beside it:
    the same network with ReLU in place of the neurons, and logistic regression on the pixels of 6,000 images. The
    network and its training were chosen on 10,000 of the training images, never on the test.
    """
    data = FashionMNIST()
    part = data.smoke if smoke else data.load

    def validation(fold: int) -> Split:
        train = part("train")
        order = np.random.default_rng(0).permutation(len(train))
        return Split(train.take(order[len(train) // 6 :]), train.take(order[: len(train) // 6]))

    return Recipe(
        model=partial(_network, steps),
        data=lambda fold: Split(part("train"), part("test")),
        fit=Classify(
            epochs=20 if smoke else epochs,
            batch=5 if smoke else batch,
            learning_rate=lr,
            weight_decay=0.01,
            warmup=0.2,
            networks={"CNN of equal size": partial(_network, 0)},
            baselines={"logistic regression": _logistic_regression},
        ),
        claims=(Claim("accuracy", ">=", 0.3, "smoke size: three times chance"),)
        if smoke
        else (Claim("accuracy", ">=", 0.895, "our own target"),),
        source="Xiao, Rasul and Vollgraf 2017 (data); network of our own",
        seeds=(0,) if smoke else (0, 1, 2),
        validation=validation,
    )


def _network(steps: int) -> nn.Module:
    """The spiking network over `steps` steps, or with 0 its counterpart with ReLU."""

    def neuron() -> nn.Module:
        # at half the usual threshold enough neurons fire within two steps
        return ranvier.LIF(tau=2.0, threshold=0.5, surrogate=ranvier.Arctan(width=1.0)) if steps else nn.ReLU()

    return nn.Sequential(
        ranvier.Conv2d(1, 32, 5, stride=2, padding=2, bias=False),
        ranvier.Fold(nn.BatchNorm2d(32)),
        ranvier.Direct(max(steps, 1)),
        neuron(),
        ranvier.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        ranvier.Fold(nn.BatchNorm2d(64)),
        neuron(),
        nn.Flatten(2),
        ranvier.Linear(64 * 7 * 7, 10),
        ranvier.LeakyIntegrator(tau=2.0) if steps else nn.Identity(),
        ranvier.RateDecoder(),
    )


def _logistic_regression(split: Split, seed: int) -> Tensor:
    from sklearn.linear_model import LogisticRegression

    order = np.random.default_rng(seed).permutation(len(split.train))
    some = split.train.take(order[:FITTED])
    model = LogisticRegression(C=0.05, max_iter=1000).fit(_pixels(some), some.y)
    return torch.from_numpy(model.predict_proba(_pixels(split.test)))


def _pixels(samples: Samples) -> np.ndarray:
    pixels: np.ndarray = samples.batch().x[0].flatten(1).numpy()
    return pixels
