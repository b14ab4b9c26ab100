import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal, nearest
from ranvier.core.declarations import checked, within
from ranvier.core.state import Stateful, current, retime, state_dtype
from ranvier.nn.synapses.delays import Delayed
from ranvier.ops.delayed_linear import delayed_linear
from ranvier.ops.delayed_linear.shapes import KINDS, Kind

Per = Literal["synapse", "axon", "dendrite"]


class DelayedLinear(Stateful, Delayed):
    """All-to-all synapses, each with a weight and a delay that are learnt.

    y[t, o] = sum_i w[o, i] sum_k g(k; d[o, i]) x[t - k, i] + b[o], k = 0 ... max_delay, and d in [0, max_delay] steps.

    "gaussian": g = exp(-((k - d) / (|sigma| + 0.27))^2 / 2), divided by its sum over k + 1e-7; sigma starts at half of
    max_delay, and SigmaSchedule lets it shrink. "triangle": g = max(0, 1 - |k - d|), the two steps around d. "rounded": the
    step nearest to d, with the gradient of "triangle". Delays belong to each synapse, or one to each input
    (`delays="axon"`) or output ("dendrite"). They begin at `start`, or else anywhere in their range, and with learn=False they
    stay there.

    `pad` steps of silence after the input let late spikes arrive; max_delay // 2 is what the source takes. A position P in
    a kernel of K = max_delay + 1 steps, as others count it, is the delay max_delay - (P + K // 2).

    Input: [T, B, in_features]. Output: [T + pad, B, out_features].
    Raises: Refusal for other shapes, for delays out of range, and for chunks with pad.
    Source: Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024; Khalfaoui-Hassani, 2024 (the shapes).

    >>> import torch
    >>> layer = DelayedLinear(1, 1, max_delay=3, kind="triangle")
    >>> with torch.no_grad():
    ...     _ = layer.weight.fill_(2.0), layer.delay.fill_(1.5)
    >>> layer(torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(4, 1, 1)).flatten().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int,
        *,
        kind: Kind = "gaussian",
        sigma: float | None = None,
        delays: Per = "synapse",
        start: float | Tensor | None = None,
        learn: bool = True,
        pad: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if max_delay < 0 or pad < 0 or (sigma is not None and not 0 <= sigma < math.inf):
            raise Refusal(
                "DelayedLinear",
                expected="a max_delay and a pad of 0 or more steps, and a finite sigma of 0 or more",
                got=f"max_delay={max_delay}, pad={pad}, sigma={sigma}",
                do="Count delays in time steps.",
            )
        _refuse_other("kind", kind, KINDS)
        _refuse_other("delays", delays, ("synapse", "axon", "dendrite"))
        self.in_features, self.out_features, self.max_delay, self.pad = in_features, out_features, max_delay, pad
        self.kind, self.per = kind, delays
        self.initial_sigma = float(max_delay // 2 if sigma is None else sigma)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        shape = (1 if delays == "axon" else out_features, 1 if delays == "dendrite" else in_features)
        if start is None:
            delay = torch.empty(shape).uniform_(0, max_delay)
        else:
            given = torch.as_tensor(start, dtype=torch.float32).detach()
            delay = checked("DelayedLinear", "start", given, 0.0, float(max_delay)).expand(shape).clone()
        if learn:
            self.delay: Tensor = nn.Parameter(delay)
        else:
            self.register_buffer("delay", delay)
        self.register_buffer("sigma", torch.tensor(self.initial_sigma))
        bound = 1 / math.sqrt(max(in_features, 1))
        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound)) if bias else None

    def places(self) -> list[nn.Parameter]:
        return [self.delay] if isinstance(self.delay, nn.Parameter) else []

    def delays(self) -> Tensor:
        """The delays as whole numbers of steps, one for each synapse [out_features, in_features]."""
        whole = self.delay.detach().clamp(0, self.max_delay).round().long()
        return whole.expand(self.out_features, self.in_features).clone()

    def rounded(self) -> "DelayedLinear":
        """A copy for inference whose delays are whole numbers that stay as they are."""
        twin = copy.deepcopy(self)
        whole = twin.delay.detach().clamp(0, twin.max_delay).round()
        del twin.delay
        twin.register_buffer("delay", whole)
        twin.kind = "rounded"
        return twin

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_shape(x)
        if self.pad:
            return {}
        return {
            "past": torch.zeros(x.shape[1], self.max_delay, self.in_features, dtype=state_dtype(x), device=x.device)
        }

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self._refuse_shape(x)
        y = self._arriving(x, lead=0)
        if self.pad:
            retime(lambda lengths: lengths + self.pad)
        if self.pad or current() is None:  # nobody keeps the state
            return y, {}
        missing = max(self.max_delay - len(x), 0)
        past = torch.cat([x.new_zeros(missing, *x.shape[1:]), x[len(x) + missing - self.max_delay :]])
        return y, {"past": past.transpose(0, 1).to(state_dtype(x), copy=True)}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self._refuse_shape(x)
        if self.pad:
            raise Refusal(
                "DelayedLinear",
                expected=f"a whole sequence, since {self.pad} steps are added after it",
                got="a chunk with a state to continue from",
                do="Choose pad=0, and run silent steps after the last chunk.",
            )
        line = torch.cat([state["past"].transpose(0, 1).to(x.dtype), x])
        past = line[len(x) :].transpose(0, 1).to(state["past"].dtype, copy=True)  # a view would keep the whole line
        return self._arriving(line, lead=self.max_delay), {"past": past}

    def _arriving(self, x: Tensor, lead: int) -> Tensor:
        # the bounds hold here and not in a kernel: where a delay is shared, the sum of gradients tells whether it leads out
        delay = within(self.delay, 0.0, float(self.max_delay))
        y = delayed_linear(
            *(x, self.weight, delay, self.sigma), kind=self.kind, longest=self.max_delay, lead=lead, tail=self.pad
        )
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _refuse_shape(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[2] != self.in_features or not x.is_floating_point():
            raise Refusal(
                "DelayedLinear",
                expected=f"floating-point [T, B, {self.in_features}], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add the missing axis with unsqueeze, flatten features, convert with x.float(), or make in_features fit.",
            )

    def extra_repr(self) -> str:
        shown = f"{self.in_features}, {self.out_features}, max_delay={self.max_delay}, kind={self.kind!r}"
        return shown + (f", delays={self.per!r}" if self.per != "synapse" else "")


def _refuse_other(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise Refusal(f"DelayedLinear.{what}", expected=f"one of {names}", got=repr(name), do=nearest(name, names))
