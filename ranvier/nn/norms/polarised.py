from collections.abc import Callable

from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful
from ranvier.nn.neurons.neuron import Bound, Neuron
from ranvier.nn.norms._equation import compares_once
from ranvier.nn.norms._run import in_one_kernel, shaped, step_by_step


class Polarised(Stateful):
    """Neurons that fire at a threshold of each channel's own, upward or downward: what a membrane norm folds into.

    z[t] = polarity (v[t] - threshold) >= 0, with polarity 1 or -1. The neuron's own threshold keeps its part in the reset.

    `threshold` and `polarity` are [features] or [*features]: one for each channel, or for each element.

    Input: current x [T, B, *features, ...]. Output: what the neuron gives out, same shape.
    Raises: Refusal for a neuron that does not compare one membrane with one threshold, for a polarity other than 1 and
    -1, and what the neuron raises.
    Source: Guo et al., ICCV 2023 (re-parametrised firing threshold).

    >>> import torch, ranvier
    >>> layer = Polarised(ranvier.IF(), torch.tensor([0.5, -0.5]), torch.tensor([1.0, -1.0]))
    >>> layer(torch.tensor([[0.4, -0.4], [0.4, -0.4]])[:, None]).squeeze(1)
    tensor([[0., 0.],
            [1., 1.]])
    """

    threshold: Tensor
    polarity: Tensor

    def __init__(self, neuron: Neuron, threshold: Tensor, polarity: Tensor) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron) or not compares_once(neuron):
            raise Refusal(
                "Polarised.neuron",
                expected="a neuron whose step is self.spike(v - self.threshold), once",
                got=type(neuron).__name__,
                do="Choose another neuron, as LIF.",
            )
        if threshold.shape != polarity.shape or threshold.ndim < 1 or not bool((polarity.abs() == 1).all()):
            raise Refusal(
                "Polarised",
                expected="threshold and polarity of the same shape, the polarity 1 or -1",
                got=f"{tuple(threshold.shape)} and {tuple(polarity.shape)}, {polarity.flatten()[:4].tolist()}",
                do="Give one of each for every channel.",
            )
        self.neuron, self.records = neuron, neuron.records
        self.register_buffer("threshold", threshold.detach().clone())
        self.register_buffer("polarity", polarity.detach().to(threshold.dtype, copy=True))

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_features(x)
        return self.neuron.rest(x)

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        state = self.rest(x) if wants_reference() or self.neuron.random else None
        return self._run(x, state)

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self._run(x, state)

    def _run(self, x: Tensor, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        self._refuse_features(x)
        level, polarity = shaped(x, tuple(self.threshold.shape), self.threshold, self.polarity)
        if state is not None and wants_reference():

            def change(bound: Bound) -> Callable[[Tensor], Tensor]:
                centre = level - bound.threshold
                return lambda u: (u - centre) * polarity

            return step_by_step(self, self.neuron, x, state, change)
        # with the neuron's own threshold as the shift, nothing is left of it: polarity (v - level) is compared with 0
        own = dict(zip(self.neuron.declared, self.neuron._values(), strict=True))["threshold"]
        return in_one_kernel(self, self.neuron, x, state, membrane=(level, polarity, own))

    def _refuse_features(self, x: Tensor) -> None:
        self.neuron._refuse_shape(x)
        features = tuple(self.threshold.shape)
        if x.shape[2 : 2 + len(features)] != features:
            raise Refusal(
                "Polarised",
                expected=f"[T, B, {', '.join(map(str, features))}, ...], time first",
                got=f"shape {tuple(x.shape)}",
                do="Give as many thresholds as there are channels.",
            )

    def extra_repr(self) -> str:
        return f"{tuple(self.threshold.shape)} thresholds, {int((self.polarity < 0).sum())} of them downward"
