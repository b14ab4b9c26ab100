from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.ops.stdp.homeostasis import balanced


class HomeostaticRescale:
    """Weights rescaled so that a neuron's whole pattern, all its positive weights, reaches theta / factor.

    Of equal weights the n positive ones become theta / (factor n), the others -theta / (factor n): the neuron then fires for
    inputs at a Hamming distance of at most (1 - factor) n.

    Input: weight [..., I, O]. Output: the same shape; a neuron without a positive weight keeps its own.
    Raises: Refusal for a theta that is not positive, and a factor outside 0 ... 1.
    Source: Davies, Gait, Rowley and Di Nuovo, Neurocomputing 2025; our reading, since its constants are not public.

    >>> import torch
    >>> HomeostaticRescale(theta=1.0, factor=0.5)(torch.tensor([[3.0], [3.0], [-1.0]])).flatten().tolist()
    [1.0, 1.0, -1.0]
    """

    def __init__(self, theta: float = 1.0, factor: float = 1.0) -> None:
        if not theta > 0 or not 0 < factor <= 1:
            got = f"{theta:g} and {factor:g}"
            do = "A factor of 1 is the exact pattern alone."
            raise Refusal("HomeostaticRescale", expected="theta > 0 and 0 < factor <= 1", got=got, do=do)
        self.theta, self.factor = theta, factor

    def __call__(self, weight: Tensor) -> Tensor:
        return balanced(weight, self.theta, self.factor)

    def __repr__(self) -> str:
        return f"HomeostaticRescale({self.theta:g}, {self.factor:g})"
