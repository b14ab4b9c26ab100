from typing import Any

import torch
from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class UltradiscretisedLIF(Neuron):
    """Leaky integrate-and-fire neuron of max-plus algebra (UltraLIF): smooth, so that its gradient is exact.

    v[t] = epsilon log(exp((v[t-1] + log a) / epsilon) + exp(x[t] / epsilon)), a = decay(tau);
    z[t] = sigmoid(slope (v[t] - threshold) / epsilon); then v is reset by the graded z, under "zero" to v (1 - z).

    As epsilon goes to 0, v[t] tends to max(v[t-1] + log a, x[t]). graded=False makes z[t] = v[t] >= threshold, with the
    surrogate, for inference on binary spikes. A learnt tau makes it UltraPLIF; slope is 1 but in the variant that
    learns one.

    Input: current x [T, B, ...features]. Output: graded spikes z in (0, 1), same shape; 0 or 1 with graded=False.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Minoza, ICML 2026 (UltraLIF), whose released code holds a learnt epsilon above 0.1.

    >>> import torch
    >>> UltradiscretisedLIF(threshold=1.0, epsilon=0.1)(torch.tensor([0.8, 1.0, 1.2]).reshape(3, 1, 1)).flatten()
    tensor([0.1192, 0.5045, 0.8808])
    """

    tau = Parameter(10.0, unit="dt", low=1 / 0.99, high=100.0, doc="membrane time constant")
    threshold = Parameter(0.0, low=0.0, doc="membrane at which the graded spike is 1/2")
    epsilon = Parameter(1.0, low=0.01, high=20.0, doc="temperature")
    slope = Parameter(1.0, low=0.1, high=50.0, doc="steepness of the graded spike, times 1 / epsilon")
    v = State(doc="membrane")

    def __init__(self, *, graded: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.graded = graded

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = v + torch.log(self.decay(self.tau))
        rest = torch.exp(-(v - x).abs() / self.epsilon)  # of the smaller to the larger: it can't overflow
        v = torch.maximum(v, x) + self.epsilon * torch.log(1 + rest)
        u = v - self.threshold
        z = torch.sigmoid(self.slope * u / self.epsilon) if self.graded else self.spike(u)
        return z, self.reset(v, z)
