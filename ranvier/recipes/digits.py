from functools import partial

import torch
from torch import Tensor, nn

import ranvier
from ranvier.data.samples import Split
from ranvier.data.sets.digits import Digits
from ranvier.data.split import stratified
from ranvier.lab.classify import Classify
from ranvier.lab.recipe import Claim, Recipe


def digits(lr: float = 4e-3, epochs: int = 20, batch: int = 64, steps: int = 6, smoke: bool = False) -> Recipe:
    """Handwritten digits (scikit-learn, 8x8 pixels) read by a small spiking convolutional network.

    The image is a constant current for `steps` steps; two convolutions with normalised currents and LIF neurons, summed
    pooling, and a leaky integrator whose mean membrane is the score. Beside it: the same network with ReLU in place of
    the neurons, and logistic regression on the pixels.
    """
    data = Digits()
    part = data.smoke if smoke else data.load

    def validation(fold: int) -> Split:
        train = part("train")
        return Split(*map(train.take, stratified(train)))

    return Recipe(
        model=partial(_network, steps),
        data=lambda fold: Split(part("train"), part("test")),
        fit=Classify(
            epochs=10 if smoke else epochs,
            batch=5 if smoke else batch,
            learning_rate=lr,
            weight_decay=0.01,
            networks={"CNN of equal size": partial(_network, 0)},
            baselines={"logistic regression": _logistic_regression},
        ),
        claims=(Claim("accuracy", ">=", 0.3, "smoke size: three times chance"),)
        if smoke
        else (Claim("accuracy", ">=", 0.97, "our own target"),),
        source="Alpaydin and Kaynak 1998 (data); network of our own",
        seeds=(0,) if smoke else (0, 1, 2),
        validation=validation,
    )


def _network(steps: int) -> nn.Module:
    """The spiking network over `steps` steps, or with 0 its counterpart with ReLU."""

    def neuron() -> nn.Module:
        return ranvier.LIF(tau=2.0, surrogate=ranvier.Arctan(width=1.0)) if steps else nn.ReLU()

    return nn.Sequential(
        ranvier.Direct(max(steps, 1)),
        ranvier.Conv2d(1, 32, 3, padding=1, bias=False),
        ranvier.Fold(nn.BatchNorm2d(32)),
        neuron(),
        ranvier.SumPool2d(2),
        ranvier.Conv2d(32, 64, 3, padding=1, bias=False),
        ranvier.Fold(nn.BatchNorm2d(64)),
        neuron(),
        nn.Flatten(2),
        ranvier.Linear(64 * 4 * 4, 10),
        ranvier.LeakyIntegrator(tau=4.0) if steps else nn.Identity(),
        ranvier.RateDecoder(),
    )


def _logistic_regression(split: Split, seed: int) -> Tensor:
    from sklearn.linear_model import LogisticRegression

    train, test = (part.batch().x.flatten(2)[0].numpy() for part in split)
    model = LogisticRegression(max_iter=1000).fit(train, split.train.y)
    return torch.from_numpy(model.predict_proba(test))
