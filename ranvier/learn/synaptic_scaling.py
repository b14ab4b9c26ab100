from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.ops.stdp.homeostasis import scaled


class SynapticScaling:
    """Each neuron's incoming weights made to add up to a target, in proportion.

    w_ij = w_ij target / (sum over i of w_ij). A neuron whose weights add up to 0 keeps them.

    Input: weight [..., I, O] of no negative numbers. Output: the same shape.
    Raises: Refusal for a target that is not positive, and for fewer than two axes.
    Source: Turrigiano et al., Nature 1998 (the phenomenon); Diehl and Cook, Front. Comput. Neurosci. 2015 (the rule).

    >>> import torch
    >>> SynapticScaling(2.0)(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).tolist()
    [[0.5, 0.0], [1.5, 0.0]]
    """

    def __init__(self, target: float) -> None:
        if not target > 0:
            do = "Give what incoming weights shall add up to."
            raise Refusal("SynapticScaling.target", expected="a positive number", got=f"{target:g}", do=do)
        self.target = target

    def __call__(self, weight: Tensor) -> Tensor:
        if weight.ndim < 2:
            got = f"shape {tuple(weight.shape)}"
            raise Refusal("SynapticScaling", expected="[..., I, O]", got=got, do="Give a matrix of weights.")
        return scaled(weight, self.target)

    def __repr__(self) -> str:
        return f"SynapticScaling({self.target:g})"
