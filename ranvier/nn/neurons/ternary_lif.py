from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class TernaryLIF(Neuron):
    """Leaky integrate-and-fire neuron whose spikes have a sign: -1, 0 or 1.

    v[t] = a v[t-1] + x[t], a = decay(tau); b[t] = 1 where v[t] >= threshold, -1 where v[t] <= -threshold, else 0;
    z[t] = amplitude b[t]; then v is reset where b is not 0 (under "subtract" by threshold b).

    The surrogate acts at both thresholds. The paper's gradient, 1 where |v| < 1, is that of Rectangle(width=1.0) at the
    default threshold. A learnt amplitude is the paper's trainable ternary spike; it folds into the weights that follow.

    Input: current x [T, B, ...features]. Output: spikes z of the values -amplitude, 0 and amplitude, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: Guo et al., AAAI 2024 (Ternary Spike); decay and threshold of the released code.

    >>> import torch
    >>> TernaryLIF()(torch.tensor([0.4, 0.4, -0.6, 0.0, -0.45]).reshape(5, 1, 1)).flatten()
    tensor([ 0.,  1., -1.,  0.,  0.])
    """

    tau = Parameter(4 / 3, unit="dt", low=1.0, doc="membrane time constant")
    threshold = Parameter(0.5, low=0.0, doc="absolute membrane at which it fires")
    amplitude = Parameter(1.0, low=0.0, doc="size of a spike")
    v = State(doc="membrane")

    def step(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = self.decay(self.tau) * v + x
        up, down = self.spike(v - self.threshold), self.spike(-v - self.threshold)
        # |b| as up + down: at b = 0 the absolute value would have no gradient
        fired = up - down if self.reset_mode == "subtract" else up + down
        return self.amplitude * (up - down), self.reset(v, fired)
