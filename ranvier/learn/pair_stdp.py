from typing import Literal

from ranvier.learn.stdp import STDP
from ranvier.ops.stdp.rule import Rule


class PairSTDP(STDP):
    """Pairs of spikes: the synapse grows where the presynaptic one comes first, and shrinks where it comes second.

    dw = F+ a_plus exp(-s / tau_plus) for a postsynaptic spike s >= 0 after a presynaptic one,
    dw = -F- a_minus exp(-s / tau_minus) for one s > 0 before it,

    summed over all pairs (`pairs="all"`), or over those with the nearest earlier spike (`"nearest"`). F is 1 (`bounds="hard"`) or the
    distance to the bound (`"soft"`: F+ = high - w, F- = w - low); w stays in low ... high.

    Input, Output and Raises: as for `STDP`.
    Source: Bi and Poo, J. Neurosci. 1998; Morrison, Diesmann and Gerstner, Biol. Cybern. 2008 (equation 3, and section 4.1 for
    which pairs); van Rossum, Bi and Turrigiano, J. Neurosci. 2000 (soft bounds).

    >>> import torch
    >>> pre, post = torch.zeros(6, 1, 1), torch.zeros(6, 1, 1)
    >>> pre[0], post[5] = 1, 1
    >>> weight, state = PairSTDP(a_plus=0.1, tau_plus=20.0)(torch.full((1, 1), 0.5), pre, post)
    >>> f"{weight.item():.4f}"  # 0.5 + 0.1 exp(-5 / 20)
    '0.5779'
    """

    def __init__(
        self,
        a_plus: float = 0.01,
        a_minus: float = 0.012,
        tau_plus: float = 20.0,
        tau_minus: float = 20.0,
        *,
        pairs: Literal["all", "nearest"] = "all",
        bounds: Literal["hard", "soft"] = "hard",
        low: float = 0.0,
        high: float = 1.0,
        dt: float = 1.0,
    ) -> None:
        nearest, soft = self.chosen(pairs=pairs, bounds=bounds)
        times = tau_plus / dt, tau_minus / dt
        self.rule = Rule(
            a_plus, a_minus, *times, nearest=nearest, soft=soft, low=low, high=high, name=type(self).__name__
        )
