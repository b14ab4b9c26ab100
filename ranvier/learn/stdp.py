from abc import ABC
from collections.abc import Mapping

from torch import Tensor

from ranvier.core.checks import Refusal, nearest
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp import stdp
from ranvier.ops.stdp.rule import Rule


class STDP(ABC):
    """Spike-timing-dependent plasticity: what a weight becomes under the spikes at its two ends.

    weight, state = rule(weight, pre, post, state). Times are in the unit of `dt`, the length of a step. A rule has no
    state of its own: `state` holds the traces that the spikes so far have left, a flat dict of tensors; None is none.

    Input: weight [I, O], or [B, I, O] of each sample; spikes pre [T, B, I] and post [T, B, O], each 0 or 1, or as `Spikes`.
    Output: the new weight, of the same shape (of [I, O] the mean over samples, each of which starts with it), and the state.
    Raises: Refusal for other shapes, graded spikes, and a state of another rule or batch size.
    """

    rule: Rule

    def __call__(
        self, weight: Tensor, pre: Tensor | Spikes, post: Tensor | Spikes, state: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if weight.ndim == 3:
            return stdp(weight, pre, post, self.rule, state)
        if weight.ndim != 2 or pre.ndim != 3:
            got = f"shapes {tuple(weight.shape)} and {tuple(pre.shape)}"
            do = "Spikes have time first, then samples: pre.unsqueeze(1) for a single one."
            raise Refusal(type(self).__name__, expected="weight [I, O] and spikes [T, B, I]", got=got, do=do)
        each, state = stdp(weight.expand(pre.shape[1], *weight.shape), pre, post, self.rule, state)
        return each.mean(0), state

    def chosen(self, pairs: str, bounds: str) -> tuple[bool, bool]:
        """Whether only the nearest spikes pair, and whether bounds are soft."""
        for option, value, known in (("pairs", pairs, ("all", "nearest")), ("bounds", bounds, ("hard", "soft"))):
            if value not in known:
                name = f"{type(self).__name__}.{option}"
                raise Refusal(name, expected=" or ".join(map(repr, known)), got=repr(value), do=nearest(value, known))
        return pairs == "nearest", bounds == "soft"

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v:g}" for k, v in vars(self.rule).items() if not isinstance(v, str))
        return f"{type(self).__name__}({shown})"
