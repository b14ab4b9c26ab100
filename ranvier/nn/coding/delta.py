"""Delta coding: spikes where a signal has moved, and the signal back from them."""

import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful, state_dtype


class _Delta(Stateful):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        if not threshold > 0:
            raise Refusal(
                type(self).__name__,
                expected="a threshold above 0",
                got=str(threshold),
                do="Give the change of the signal that is worth a spike.",
            )
        self.threshold = threshold

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if not x.is_floating_point():  # a signal in integers would be rounded
            raise Refusal(
                type(self).__name__, expected="floating-point input", got=str(x.dtype), do="Convert it with x.float()."
            )
        # the count of spikes, not their sum times threshold: it is exact, so rounding neither adds up nor sees chunks
        return {"count": torch.zeros(x.shape[1:], dtype=state_dtype(x), device=x.device)}

    def extra_repr(self) -> str:
        return f"threshold={self.threshold:g}"


class DeltaEncoder(_Delta):
    """Delta coding (send on delta): a spike of +1 or -1 whenever the signal has moved by a threshold.

    z[t] = sign(x[t] - r[t-1]) if |x[t] - r[t-1]| >= threshold else 0; r[t] = r[t-1] + threshold z[t]; r starts at 0.
    One spike a step at most, so a faster signal is followed late. No gradient passes.

    Input: [T, B, ...features]. Output: signed spikes, same shape.
    Raises: Refusal for a threshold that is not positive.
    Source: Miskowicz, Sensors 2006.

    >>> import torch
    >>> DeltaEncoder(1.0)(torch.tensor([0.5, 1.2, 1.4, -0.1]).reshape(4, 1, 1)).flatten()
    tensor([ 0.,  1.,  0., -1.])
    """

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        count, spikes = state["count"], []
        for x_t in x.detach().to(state_dtype(x)).unbind(0):
            moved = x_t - self.threshold * count
            z = moved.sign() * (moved.abs() >= self.threshold)
            count = count + z
            spikes.append(z)
        return (torch.stack(spikes).to(x.dtype) if spikes else torch.zeros_like(x)), {"count": count}


class DeltaDecoder(_Delta):
    """The signal back from delta-coded spikes.

    y[t] = y[t-1] + threshold z[t], from 0.

    Input: signed spikes [T, B, ...features]. Output: signal, same shape.
    Raises: Refusal for a threshold that is not positive.
    Source: Miskowicz, Sensors 2006.

    >>> import torch
    >>> DeltaDecoder(0.5)(torch.tensor([1.0, 1.0, 0.0, -1.0]).reshape(4, 1, 1)).flatten()
    tensor([0.5000, 1.0000, 1.0000, 0.5000])
    """

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        counts = torch.cat([state["count"][None], x.to(state_dtype(x))]).cumsum(0)
        return (self.threshold * counts[1:]).to(x.dtype), {"count": counts[-1].clone()}
