import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from ranvier.core.checks import Refusal, nearest
from ranvier.data.samples import Split
from ranvier.data.sets.fashion_mnist import FashionMNIST
from ranvier.data.sets.mnist import MNIST
from ranvier.lab.classify import Classify
from ranvier.lab.recipe import Claim, Recipe
from ranvier.models.ei_networks import MLP_WIDTHS, ei_mlp, plain_mlp
from ranvier.nn.synapses.lateral import ei_init, keep_dale

_SETS = {"mnist": (MNIST, 0.95), "fashion-mnist": (FashionMNIST, 0.85)}


def deep_eisnn(
    lr: float = 1e-2, epochs: int = 3, batch: int = 128, pictures: str = "fashion-mnist", smoke: bool = False
) -> Recipe:
    """A spiking perceptron of 16 hidden layers without any normalisation, held in range by inhibitory neurons.

    E-I layers initialised by the first batch, weights clamped at 0 after each step, SGD with momentum 0.9 and weight
    decay 5e-4, four steps. Beside it: the same without E-I Prop (the gradient of W_EI not divided by the fan-in), and
    the same depth and widths with torch's linear layers. One that diverges counts as chance. Theirs is trained for 300
    epochs at lr 1e-3; these few epochs take a larger one. Their figures (CIFAR-10 0.92) are those of convolutional
    networks: `ranvier.models.ei_networks.ei_vgg`.
    """
    if pictures not in _SETS:
        raise Refusal("pictures", expected="a set", got=repr(pictures), do=nearest(pictures, _SETS))
    kind, target = _SETS[pictures]
    part = kind().smoke if smoke else kind().load
    widths = (100, 100, 50) if smoke else MLP_WIDTHS

    def network(ei_prop: bool = True) -> nn.Module:
        first = torch.randperm(len(part("train")))[:batch].numpy()
        return ei_init(ei_mlp(784, 10, widths, ei_prop=ei_prop), part("train").batch(first).x)

    others: dict[str, Callable[[], nn.Module]] = {
        "without E-I Prop": partial(network, ei_prop=False),
        "plain": partial(plain_mlp, 784, 10, widths),
    }
    full = (
        Claim("accuracy", ">=", target, "our own target"),
        Claim("accuracy", ">=", 0.10, "our own target", beside="plain: accuracy"),
        Claim("accuracy", ">=", 0.02, "our own target", beside="without E-I Prop: accuracy"),
        Claim("CIFAR-10, VGG8: accuracy", ">=", -0.03, "our own target", beside="batch norm: accuracy"),
    )
    return Recipe(
        model=network,
        data=lambda fold: Split(part("train"), part("test")),
        fit=Classify(
            epochs=20 if smoke else epochs,
            batch=10 if smoke else batch,
            learning_rate=lr,
            optimiser=partial(_sgd, lr),
            networks={} if smoke else others,
            may_diverge=True,
        ),
        claims=(Claim("accuracy", ">=", 0.2, "smoke size: twice chance"),) if smoke else full,
        source="Liu, Ding and Yu, ICLR 2026",
        seeds=(0,) if smoke else (0, 1, 2),
    )


def _sgd(lr: float, model: nn.Module, steps: int) -> tuple[SGD, LambdaLR]:
    made = SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    keep_dale(made, model)

    def share(k: int) -> float:
        return min(1.0, (k + 1) / (0.1 * steps)) * (0.5 + 0.5 * math.cos(math.pi * k / steps))

    return made, LambdaLR(made, share)
