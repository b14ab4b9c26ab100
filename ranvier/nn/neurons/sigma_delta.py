from torch import Tensor

from ranvier.core.declarations import Parameter, State
from ranvier.nn.neurons.neuron import Neuron


class SigmaDelta(Neuron):
    """Sigma-delta neuron: it sums the changes it receives and sends on a change of its activation once it is large.

    sigma[t] = sigma[t-1] + x[t]; e[t] = max(0, sigma[t] + bias) - sent[t-1]; y[t] = e[t] where |e[t]| >= threshold,
    else 0; sent[t] = sent[t-1] + y[t]. What is not sent stays in e, so the sum of y never differs from the activation
    by as much as the threshold. In the backward pass the surrogate stands for the step at |e| = threshold.
    There is no reset and nothing decays: `reset_mode`, `detach_reset`, `discretisation` and `dt` have no part in it.

    Input: changes x [T, B, ...features], as a DeltaEncoder or another layer of these sends through weights.
    Output: graded spikes y, same shape.
    Raises: Refusal for input without time and batch axes, and for parameters out of bounds.
    Source: O'Connor and Welling, ICLR 2017 (sigma-delta quantised networks); Lava's SigmaDelta (Intel 2022).

    >>> import torch
    >>> y = SigmaDelta(threshold=0.5)(torch.tensor([0.75, 0.25, 0.25, 0.0, -1.0]).reshape(5, 1, 1)).flatten()
    >>> y, y.cumsum(0)
    (tensor([ 0.7500,  0.0000,  0.5000,  0.0000, -1.0000]), tensor([0.7500, 0.7500, 1.2500, 1.2500, 0.2500]))
    """

    threshold = Parameter(0.1, low=0.0, doc="size of a change that is sent")
    bias = Parameter(0.0, low=-100.0, doc="added to the sum before the activation")
    sigma = State(doc="sum of the input")
    sent = State(doc="sum of the output, as the receivers have it")

    def step(self, x: Tensor, sigma: Tensor, sent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma = sigma + x
        e = (sigma + self.bias).clamp(min=0.0) - sent
        y = e * self.spike(e.abs() - self.threshold)
        return y, sigma, sent + y
