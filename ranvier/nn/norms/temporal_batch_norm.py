import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful
from ranvier.nn.norms.batch_norm import BatchNorm


class TemporalBatchNorm(Stateful):
    """Temporal effective batch normalisation (TEBN): a batch norm over all steps, with a learnt scale for each step.

    y[t] = scale[t] (weight (x[t] - mean) / sqrt(var + eps) + bias).

    Its state is the number of steps so far, so that a sequence in chunks meets the same scales.

    Input: [T, B, features, ...], at most `steps` steps in all. Output: same shape.
    Raises: Refusal for more steps, for another number of channels, and in training for a single value in each.
    Source: Duan, Ding, Chen, Yu and Huang, NeurIPS 2022.

    >>> import torch
    >>> norm = TemporalBatchNorm(3, steps=4)
    >>> with torch.no_grad():
    ...     norm.scale[1] = 0.0
    >>> norm(torch.randn(4, 8, 3)).abs().amax((1, 2)) > 0
    tensor([ True, False,  True,  True])
    """

    def __init__(
        self, features: int, *, steps: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        if not isinstance(steps, int) or steps < 1:
            raise Refusal(
                "TemporalBatchNorm.steps",
                expected="a whole number of at least 1",
                got=repr(steps),
                do="It is the number of steps of a sequence.",
            )
        self.norm = BatchNorm(features, eps=eps, momentum=momentum, affine=affine)
        self.scale = nn.Parameter(torch.ones(steps))

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self.norm.refuse_shape(x)
        return {"step": torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)}

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        state = self.rest(x)
        self._refuse_steps(len(x))
        scale = self.scale[: len(x)].reshape(-1, *[1] * (x.ndim - 1))
        return self.norm(x) * scale.to(x.dtype), {"step": state["step"] + len(x)}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        after = state["step"] + len(x)
        self._refuse_steps(int(after.max()) if len(after) else 0)
        place = state["step"] + torch.arange(len(x), device=x.device)[:, None]
        scale = self.scale[place].reshape(*place.shape, *[1] * (x.ndim - 2))
        return self.norm(x) * scale.to(x.dtype), {"step": after}

    def _refuse_steps(self, steps: int) -> None:
        if steps > len(self.scale):
            raise Refusal(
                "TemporalBatchNorm",
                expected=f"at most {len(self.scale)} steps, each with its scale",
                got=str(steps),
                do="Give it as many steps as sequences have, or cut the sequence.",
            )

    def extra_repr(self) -> str:
        return f"steps={len(self.scale)}"
