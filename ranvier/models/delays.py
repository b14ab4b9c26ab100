"""Feed-forward spiking networks whose synapses have delays, and how they are trained."""

import copy
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from ranvier.nn.coding.rate import RateDecoder
from ranvier.nn.fold import Fold
from ranvier.nn.neurons.leaky_integrator import LeakyIntegrator
from ranvier.nn.neurons.lif import LIF
from ranvier.nn.surrogates import Arctan
from ranvier.nn.synapses.delayed_linear import DelayedLinear
from ranvier.nn.synapses.delays import Delayed, SigmaSchedule, delay_groups
from ranvier.nn.synapses.scale import Scale

Delays = Literal["learnt", "fixed", "none"]
DELAYS = ("learnt", "fixed", "none")


def delayed_network(
    inputs: int,
    width: int,
    classes: int,
    *,
    hidden: int = 2,
    max_delay: int = 24,
    delays: Delays = "learnt",
    tau: float = 1.005,
    dropout: float = 0.4,
    steps: float = 100.0,
) -> nn.Sequential:
    """Hidden layers of delayed synapses, batch norm, LIF and dropout; then delayed synapses onto leaky integrators.

    The scores are `steps` times the mean over time of the softmax of the integrators' membranes: over so many steps
    their sum. Delays are learnt, fixed where chance puts them, or none; without them there are more neurons, so that
    the parameters are as many.

    Source: Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024.

    >>> networks = [delayed_network(40, 64, 10, delays=delays) for delays in DELAYS]
    >>> networks[0](torch.zeros(30, 2, 40)).shape
    torch.Size([2, 10])
    >>> [sum(p.numel() for p in n.parameters()) for n in networks]
    [14848, 7552, 14896]
    """
    if delays == "none":
        width, max_delay = _wider(inputs, width, classes, hidden), 0
    layers: list[nn.Module] = []
    for i in range(hidden):
        norm = nn.BatchNorm1d(width)
        nn.init.constant_(norm.weight, tau)  # the source's neurons add their input undivided
        neurons = LIF(tau=tau, detach_reset=True, surrogate=Arctan(width=4 / (5 * math.pi)))
        layers += [_synapses(inputs if i == 0 else width, width, max_delay, delays)]
        layers += [Fold(norm), neurons, nn.Dropout(dropout)]
    layers += [_synapses(width, classes, max_delay, delays), Scale(tau), LeakyIntegrator(tau=tau)]
    return nn.Sequential(*layers, nn.Softmax(-1), RateDecoder(), Scale(steps))


def rounded(network: nn.Module) -> nn.Module:
    """A copy for inference whose delays are whole numbers of steps.

    >>> network = delayed_network(4, 8, 2)
    >>> {layer.kind for layer in rounded(network).modules() if isinstance(layer, DelayedLinear)}
    {'rounded'}
    """
    twin = copy.deepcopy(network)
    for name, module in list(twin.named_children()):
        if isinstance(module, DelayedLinear):
            setattr(twin, name, module.rounded())
    return twin


def narrow(epochs: int, network: nn.Module, epoch: int) -> None:
    """Give the delay kernels of a network that learns them the width of this epoch."""
    if any(isinstance(m, Delayed) and m.places() for m in network.modules()):
        SigmaSchedule(network, epochs).step(epoch)


def two_rates(
    lr: float, most: float, delay_lr: float, network: nn.Module, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Adam: weights by one cycle from `lr` over `most` (decay 1e-5), delays from `delay_lr` along a cosine.

    Source: Hammouamri et al., ICLR 2024.
    """
    groups = [group for group in delay_groups(network, lr=lr, delay_lr=delay_lr) if group["params"]]
    made = torch.optim.Adam(groups)

    def cycle(step: int) -> float:
        rise = 0.3 * steps  # torch's OneCycleLR: a cosine up, and one down to nearly 0
        if step < rise:
            return 1 + (most / lr - 1) * (1 - math.cos(math.pi * step / rise)) / 2
        return most / lr * (1 + math.cos(math.pi * min((step - rise) / (steps - rise), 1.0))) / 2

    def cosine(step: int) -> float:
        return (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2

    courses: list[Callable[[int], float]] = [cycle if group["name"] == "weights" else cosine for group in groups]
    return made, torch.optim.lr_scheduler.LambdaLR(made, courses)


def _synapses(inputs: int, outputs: int, max_delay: int, delays: Delays) -> DelayedLinear:
    return DelayedLinear(inputs, outputs, max_delay, learn=delays == "learnt", pad=max_delay // 2)


def _wider(inputs: int, width: int, classes: int, hidden: int) -> int:
    def size(w: int) -> int:
        return w * (inputs + (hidden - 1) * w + classes + 2 * hidden)

    wanted = 2 * size(width) - 2 * hidden * width
    return min(range(width, 3 * width), key=lambda w: abs(size(w) - wanted))
