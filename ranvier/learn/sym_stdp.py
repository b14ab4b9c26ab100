from ranvier.learn.stdp import STDP
from ranvier.ops.stdp.rule import Rule


class SymSTDP(STDP):
    """Symmetric potentiation: neurons that fire together are joined more strongly, whichever of them was first.

    dw = eta a exp(-|s| / tau) for every pair of spikes s apart, up to w_max; no weight falls.

    Input, Output and Raises: as for `STDP`.
    Source: Hao, Huang, Dong and Xu, Neural Networks 2020.

    >>> import torch
    >>> a, b = torch.zeros(6, 1, 1), torch.zeros(6, 1, 1)
    >>> a[0], b[5] = 1, 1
    >>> rule, weight = SymSTDP(eta=1.0), torch.full((1, 1), 0.5)
    >>> [f"{rule(weight, *ends)[0].item():.4f}" for ends in ((a, b), (b, a))]  # 0.5 + 0.1 exp(-5 / 20)
    ['0.5779', '0.5779']
    """

    def __init__(self, eta: float, tau: float = 20.0, a: float = 0.1, w_max: float = 1.0, *, dt: float = 1.0) -> None:
        self.rule = Rule.symmetric(eta * a, tau / dt, w_max, type(self).__name__)
