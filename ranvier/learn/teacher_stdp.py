import math

from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.learn.stdp import STDP
from ranvier.ops.stdp.homeostasis import weakened
from ranvier.ops.stdp.rule import Rule


class TeacherSTDP(STDP):
    """A teacher's spike binds the inputs that came before it, and puts off those that did not come at all.

    w += a_plus exp(-s / tau) for an input's spike s before a teacher's, w -= a_minus at a teacher's spike for each input without
    one in the whole sequence. Weights have no bounds and may become negative.

    Input: weight [I, O]; spikes pre [T, B, I] and the teacher's [T, B, O]. Output: the new weight (of [I, O] the mean over
    samples) and the state, as for `STDP`.
    Raises: Refusal as for `STDP`, and for weights of each sample.
    Source: Davies, Gait, Rowley and Di Nuovo, Neurocomputing 2025; our reading, since its constants are not public.

    >>> import torch
    >>> pre, teacher = torch.zeros(3, 1, 2), torch.zeros(3, 1, 1)
    >>> pre[0, 0, 0], teacher[2] = 1, 1
    >>> weight, _ = TeacherSTDP(a_plus=1.0, a_minus=0.5, tau=20.0)(torch.zeros(2, 1), pre, teacher)
    >>> [f"{w:.4f}" for w in weight.flatten().tolist()]  # exp(-2 / 20)
    ['0.9048', '-0.5000']
    """

    def __init__(self, a_plus: float = 1.0, a_minus: float = 0.5, tau: float = 20.0, *, dt: float = 1.0) -> None:
        self.a_minus = a_minus
        self.rule = Rule(a_plus, 0.0, tau / dt, tau / dt, low=-math.inf, high=math.inf, name="TeacherSTDP")

    def __call__(
        self, weight: Tensor, pre: object, post: object, state: object = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if weight.ndim != 2 or not isinstance(pre, Tensor) or not isinstance(post, Tensor):
            do = "Give dense spikes, and one weight for all samples."
            raise Refusal("TeacherSTDP", expected="weight [I, O] and tensors", got="others", do=do)
        learnt, after = super().__call__(weight, pre, post, state)  # type: ignore[arg-type]
        return weakened(learnt, pre, post, self.a_minus), after
