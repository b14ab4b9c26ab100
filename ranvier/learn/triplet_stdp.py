from typing import Literal

from ranvier.learn.stdp import STDP
from ranvier.ops.stdp.rule import Rule


class TripletSTDP(STDP):
    """Triplets of spikes: what a pair does grows with how lately the same neuron has fired before.

    dw = F+ r1 (a2_plus + a3_plus o2) at a postsynaptic spike, dw = -F- o1 (a2_minus + a3_minus r2) at a presynaptic one,

    with traces r1 (tau_plus) and r2 (tau_x) of the presynaptic neuron, o1 (tau_minus) and o2 (tau_y) of the postsynaptic one; r2
    and o2 are those just before the spike. Amplitudes and times by default: the all-to-all fit to visual cortex, in ms.

    Input, Output and Raises: as for `STDP`.
    Source: Pfister and Gerstner, J. Neurosci. 2006 (equations 3 and 4; table 4).

    >>> import torch
    >>> pre, post = torch.zeros(30, 1, 1), torch.zeros(30, 1, 1)
    >>> pre[0], post[5], post[25] = 1, 1, 1
    >>> rule = TripletSTDP(a2_plus=0.0, a2_minus=0.0, a3_plus=0.1, tau_plus=20.0, tau_y=40.0)
    >>> weight, state = rule(torch.full((1, 1), 0.5), pre, post)
    >>> f"{weight.item():.4f}"  # 0.5 + 0.1 exp(-25 / 20) exp(-20 / 40)
    '0.5174'
    """

    def __init__(
        self,
        a2_plus: float = 5e-10,
        a2_minus: float = 7e-3,
        a3_plus: float = 6.2e-3,
        a3_minus: float = 2.3e-4,
        tau_plus: float = 16.8,
        tau_minus: float = 33.7,
        tau_x: float = 101.0,
        tau_y: float = 125.0,
        *,
        pairs: Literal["all", "nearest"] = "all",
        bounds: Literal["hard", "soft"] = "hard",
        low: float = 0.0,
        high: float = 1.0,
        dt: float = 1.0,
    ) -> None:
        nearest, soft = self.chosen(pairs=pairs, bounds=bounds)
        times = {"tau_plus": tau_plus, "tau_minus": tau_minus, "tau_x": tau_x, "tau_y": tau_y}
        self.rule = Rule(
            a2_plus,
            a2_minus,
            a3_plus=a3_plus,
            a3_minus=a3_minus,
            **{name: tau / dt for name, tau in times.items()},
            nearest=nearest,
            soft=soft,
            low=low,
            high=high,
            name=type(self).__name__,
        )
