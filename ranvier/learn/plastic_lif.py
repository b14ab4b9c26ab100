import math

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful
from ranvier.learn.stdp import STDP
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp import stdp_layer, traces
from ranvier.ops.stdp.reference import Neurons


class PlasticLIF(Stateful):
    """Leaky integrate-and-fire neurons whose incoming synapses learn while they run, and that may compete.

    u_j[t] = exp(-dt / tau) v_j[t-1] + sum over i of w_ij x_i[t] - inhibition (number of other neurons' spikes at t-1)
    z_j[t] = 1 where u_j[t] >= threshold + theta_j, and then v_j[t] = 0; else v_j[t] = u_j[t]
    theta_j falls by exp(-dt / tau_theta) a step and grows by theta_plus at an own spike

    and the weights w change by `rule`. With `single` at most one neuron fires in a step, the one furthest above its threshold.
    A module never changes by itself: it starts with its `weight` and `theta`, and what these become is in the
    state that `ranvier.run` returns, for each sample; `keep` takes their mean over. Without a rule, or in eval mode, both rest.

    Input: spikes x [T, B, inputs], each 0 or 1, or `Spikes`. Output: spikes [T, B, neurons]; no gradient passes.
    Raises: Refusal for graded spikes, another number of inputs, and times that are not positive.
    Source: Diehl and Cook, Front. Comput. Neurosci. 2015 (competition by inhibition and adaptive thresholds).

    >>> import ranvier
    >>> from ranvier.learn.pair_stdp import PairSTDP
    >>> layer = PlasticLIF(1, 1, PairSTDP(a_plus=0.1, a_minus=0.0), tau=10.0, threshold=0.5)
    >>> _ = layer.weight.fill_(0.4)
    >>> z, state = ranvier.run(layer, torch.ones(4, 1, 1))
    >>> z.flatten().tolist(), f"{state['weight'].item():.3f}", f"{layer.weight.item():.1f}"
    ([0.0, 1.0, 1.0, 1.0], '1.000', '0.4')
    """

    weight: Tensor
    theta: Tensor
    records = ("spikes",)

    def __init__(
        self,
        inputs: int,
        neurons: int,
        rule: STDP | None,
        *,
        tau: float = 100.0,
        threshold: float = 1.0,
        theta_plus: float = 0.0,
        tau_theta: float = math.inf,
        inhibition: float = 0.0,
        single: bool = False,
        dt: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("tau", tau), ("tau_theta", tau_theta), ("dt", dt)):
            if not value > 0:
                do = "Give it in the unit of dt."
                raise Refusal(f"PlasticLIF.{name}", expected="a positive time", got=f"{value:g}", do=do)
        self.rule = rule
        self.neurons = Neurons(math.exp(-dt / tau), threshold, theta_plus, tau_theta / dt, inhibition, single)
        self.register_buffer("weight", torch.rand(inputs, neurons) * 0.3)
        self.register_buffer("theta", torch.zeros(neurons))

    def rest(self, x: Tensor | Spikes) -> dict[str, Tensor]:
        inputs, neurons = self.weight.shape
        if x.ndim != 3 or x.shape[2] != inputs:
            got = f"shape {tuple(x.shape)}"
            raise Refusal("PlasticLIF", expected=f"[T, B, {inputs}], time first", got=got, do="Flatten the features.")
        batch = x.shape[1]
        weight = self.weight.expand(batch, inputs, neurons)
        state = {"weight": weight, "theta": self.theta.expand(batch, neurons).clone()}
        state |= {name: self.weight.new_zeros(batch, neurons) for name in ("v", "z")}
        return state | (traces(self.rule.rule, weight) if self.rule is not None else {})

    def advance(self, x: Tensor | Spikes, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        learns = self.rule is not None and self.training
        neurons = (
            self.neurons if learns else Neurons(**{**vars(self.neurons), "theta_plus": 0.0, "tau_theta": math.inf})
        )
        z, after = stdp_layer(x, neurons, self.rule.rule if learns and self.rule is not None else None, state)
        z = z if isinstance(x, Spikes) else z.to(x.dtype)
        self.note("spikes", z)
        return z, {**state, **after}

    @torch.no_grad()
    def keep(self, state: dict[str, Tensor]) -> None:
        """Take over what the weights and thetas of a state have become: their mean over its samples."""
        self.weight.copy_(state["weight"].mean(0))
        self.theta.copy_(state["theta"].mean(0))

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, rule={self.rule}"
