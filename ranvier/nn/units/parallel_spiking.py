"""Parallel spiking neurons: without a reset, the membranes of all steps are one linear map of all inputs."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranvier.compile.scan import scan, wants_reference
from ranvier.compile.symbol import Symbol
from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful, current, state_dtype
from ranvier.nn.surrogates import Arctan, Surrogate, spike
from ranvier.nn.units.courses import Fused, Symbols, equation, unrounded

_FUSED = 8
"""The largest order of a SlidingPSN that runs as one kernel; holding more inputs costs more than products with zeros."""
_ROWS = 16
"""Steps that one matrix product of a SlidingPSN gives at least: fewer don't fill it, more multiply by zeros."""


class _Parallel(Stateful):
    records = ("spikes", "v")

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def _fired(self, x: Tensor, u: Tensor, threshold: Tensor) -> Tensor:
        """The spikes, like x, for u = v - threshold [T, neurons]."""
        z = spike(u, self.surrogate).reshape(x.shape).to(x.dtype)
        self.note("spikes", z)
        if self.wants("v"):
            self.note("v", (u + threshold.to(u.dtype)).reshape(x.shape))
        return z

    def _refuse_shape(self, x: Tensor) -> None:
        if x.ndim < 3 or not x.is_floating_point():
            raise Refusal(
                type(self).__name__,
                expected="floating-point [T, B, ...features], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add a missing axis with unsqueeze, convert with x.float().",
            )

    def _refuse(self, expected: str, got: str, do: str) -> Refusal:
        carrier, kind = current(), type(self).__name__
        name = "" if carrier is None else carrier.names.get(self, "")
        return Refusal(f"{name} ({kind})" if name else kind, expected=expected, got=got, do=do)


def _flat(x: Tensor) -> Tensor:
    return x.to(state_dtype(x)).flatten(1)


def _step_weights(steps: int) -> nn.Parameter:
    weight = nn.Parameter(torch.empty(steps, steps))
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    return weight


def _positive(owner: str, name: str, number: int) -> int:
    if number < 1:
        raise Refusal(f"{owner}.{name}", expected="1 or more", got=repr(number), do="Count it in time steps.")
    return number


class PSN(_Parallel):
    """Parallel spiking neuron: every step's membrane weighs the inputs of all steps, past and future.

    v = W x, W [steps, steps]; z[t] = v[t] >= threshold[t]. Both are learnt and shared by all neurons.

    It is not causal, so a sequence is given whole. Their surrogate is Arctan(2 / pi); their bias is -threshold.

    Input: current x [steps, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for another number of steps, and for a state to continue from.
    Source: Fang et al., NeurIPS 2023 (PSN); W is drawn as by torch's Linear, the threshold starts at 1.

    >>> import torch
    >>> layer = PSN(3)
    >>> _ = torch.nn.init.constant_(layer.weight, 0.5)
    >>> layer(torch.tensor([0.0, 0.5, 1.5]).reshape(3, 1, 1)).flatten().detach()
    tensor([1., 1., 1.])
    """

    def __init__(self, steps: int, *, surrogate: Surrogate = Arctan()) -> None:
        super().__init__(surrogate)
        self.steps = _positive("PSN", "steps", steps)
        self.weight = _step_weights(steps)
        self.threshold = nn.Parameter(torch.ones(steps, 1))

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_shape(x)
        return {}

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self._refuse_shape(x)
        if len(x) != self.steps:
            raise self._refuse(
                expected=f"a whole sequence of {self.steps} steps",
                got=f"{len(x)}",
                do="Make PSN(steps) fit. SlidingPSN takes any number of steps.",
            )
        with unrounded(x):
            inputs = _flat(x)
            u = torch.addmm(-self.threshold.to(inputs.dtype), self.weight.to(inputs.dtype), inputs)
            return self._fired(x, u, self.threshold), {}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        raise self._refuse(
            expected="a whole sequence, since it is not causal in time",
            got="a chunk with a state to continue from",
            do="Run the sequence at once. SlidingPSN streams; MaskedPSN does once it is masked.",
        )

    def extra_repr(self) -> str:
        return f"{self.steps}"


class MaskedPSN(_Parallel):
    """Masked parallel spiking neuron: as PSN, but a step's membrane weighs the last `order` inputs only.

    v = (W * M) x, M = masking M_k + (1 - masking); M_k[i, j] = 1 where j <= i < j + order, else 0;
    z[t] = v[t] >= threshold[t].

    Progressive masking: training begins at masking 0, a PSN, and `anneal` raises it to 1. Only then is it causal, and
    takes chunks, up to `steps` in all.

    Input: current x [steps, B, ...features]; when masked, any part of it from the first step on. Output: spikes z,
    same shape.
    Raises: Refusal for more than `steps` steps in all, and, while not fully masked, for fewer and for a state.
    Source: Fang et al., NeurIPS 2023 (masked PSN); initialised as PSN.

    >>> import torch
    >>> layer = MaskedPSN(3, order=2)
    >>> _ = torch.nn.init.constant_(layer.weight, 0.5)
    >>> layer(torch.tensor([0.0, 0.5, 1.5]).reshape(3, 1, 1)).flatten().detach()
    tensor([0., 0., 1.])
    """

    masking: Tensor
    band: Tensor

    def __init__(self, steps: int, order: int, *, masking: float = 1.0, surrogate: Surrogate = Arctan()) -> None:
        super().__init__(surrogate)
        self.steps, self.order = _positive("MaskedPSN", "steps", steps), _positive("MaskedPSN", "order", order)
        self.weight = _step_weights(steps)
        self.threshold = nn.Parameter(torch.ones(steps, 1))
        self.register_buffer("masking", torch.zeros(()))
        self.register_buffer("band", torch.ones(steps, steps).tril().triu(1 - order), persistent=False)
        self._mask(masking)

    def anneal(self, progress: float, ramp: float = 8.0) -> None:
        """Set masking to min(1, ramp progress); progress is epoch / (epochs - 1), and 8 the authors' ramp."""
        self._mask(min(1.0, ramp * progress))

    def _mask(self, masking: float) -> None:
        if not 0 <= masking <= 1:
            raise Refusal(
                "MaskedPSN.masking",
                expected="a number from 0 (a PSN) to 1 (masked)",
                got=repr(masking),
                do="Write layer.anneal(epoch / (epochs - 1)).",
            )
        self.masking.fill_(masking)

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_shape(x)
        step = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
        return {"past": _no_past(x, self.order), "step": step}

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        state = self.rest(x)
        if len(x) != self.steps:
            self._refuse_unmasked(f"{len(x)} steps")
        return self._from(0, x, state)

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self._refuse_unmasked("a chunk with a state to continue from")
        return self._from(int(state["step"].max()) if x.shape[1] else 0, x, state)

    def _from(self, first: int, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        past, last = state["past"], first + len(x)
        if last > self.steps:
            raise self._refuse(
                expected=f"{self.steps} steps in all",
                got=f"{last}",
                do="Begin a new sequence with state=None. SlidingPSN takes any number of steps.",
            )
        with unrounded(x):
            inputs = _flat(x)
            weight = (self.masking * self.band + (1 - self.masking)) * self.weight
            rows = weight[first:last].to(inputs.dtype)
            threshold = self.threshold[first:last]
            u = torch.addmm(-threshold.to(inputs.dtype), rows[:, first:last], inputs)
            seen = min(first, self.order - 1)
            if seen:
                u = u + rows[:, first - seen : first] @ past.transpose(0, 1)[-seen:].flatten(1)
            return self._fired(x, u, threshold), {"past": _later_past(past, x), "step": state["step"] + len(x)}

    def _refuse_unmasked(self, got: str) -> None:
        if not bool(self.masking >= 1):
            raise self._refuse(
                expected=f"a whole sequence of {self.steps} steps, since it is not causal before masking is 1",
                got=got,
                do="Run the sequence at once, or finish the masking: layer.anneal(1.0).",
            )

    def extra_repr(self) -> str:
        return f"{self.steps}, order={self.order}, masking={self.masking.item():g}"


class SlidingPSN(_Parallel, Fused):
    """Sliding parallel spiking neuron: every step's membrane weighs the last `order` inputs alike.

    v[t] = sum over i of W[i] x[t - order + 1 + i], W [order]; z[t] = v[t] >= threshold. Both are learnt and shared by all.

    Up to order 8 it is one kernel; longer ones are matrix products over blocks of steps.

    Input: current x [T, B, ...features]. Output: spikes z, same shape.
    Raises: Refusal for input without time and batch axes, and for an order below 1.
    Source: Fang et al., NeurIPS 2023 (sliding PSN); W starts at (..., 1/4, 1/2, 1), or, not `exponential`, as torch's
    Linear; the threshold starts at 1.

    >>> import torch
    >>> SlidingPSN(2)(torch.tensor([0.8, 0.8, 0.0, 1.0]).reshape(4, 1, 1)).flatten().detach()
    tensor([0., 1., 0., 1.])
    """

    def __init__(self, order: int, *, exponential: bool = True, surrogate: Surrogate = Arctan()) -> None:
        super().__init__(surrogate)
        self.order = _positive("SlidingPSN", "order", order)
        weight = 0.5 ** torch.arange(order - 1, -1, -1, dtype=torch.get_default_dtype())
        if not exponential:
            nn.init.kaiming_uniform_(weight[None], a=math.sqrt(5))
        self.weight, self.threshold = nn.Parameter(weight), nn.Parameter(torch.ones(()))
        self.name()

    def equations(self) -> tuple[str, ...]:
        return tuple(_sliding(self.order, self.surrogate, watched) for watched in (False, True))

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_shape(x)
        return {"past": _no_past(x, self.order)}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if self.order <= _FUSED and not wants_reference():
            return self._fused(x, state["past"])
        before, held = state["past"].transpose(0, 1).flatten(1), self.order - 1
        with unrounded(x):
            inputs = _flat(x)
            threshold = self.threshold.to(inputs.dtype)
            matrix, blocks = self._matrix(inputs.dtype), []
            for block in torch.split(inputs, len(matrix)):
                u = torch.addmm(-threshold, matrix[: len(block), held : held + len(block)], block)
                blocks.append(torch.addmm(u, matrix[: len(block), :held], before) if held else u)
                before = block[len(matrix) - held :]  # wrong after the last block alone, which may be short
            return self._fired(x, torch.cat(blocks), threshold), {"past": _later_past(state["past"], x)}

    def _fused(self, x: Tensor, past: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The same as a kernel that holds the last inputs as states."""
        watched = self.wants("v")
        initial = [*past.unbind(1), *([torch.zeros(x.shape[1:], dtype=past.dtype, device=x.device)] if watched else [])]
        z, finals, records = scan(
            self.named[watched], x, [*self.weight.unbind(), self.threshold], initial, ("v",) * watched
        )
        self.note("spikes", z)
        for v in records:
            self.note("v", v)
        held = self.order - 1
        return z, {"past": torch.stack(finals[:held], dim=1) if held else past}

    def _matrix(self, dtype: torch.dtype) -> Tensor:
        """The weights, one step later from row to row: [rows, order - 1 before the block, then the block]."""
        rows = max(_ROWS, self.order - 1)
        columns = rows + self.order - 1
        repeated = functional.pad(self.weight.to(dtype), (0, rows)).repeat(rows)  # each row ends one number too early
        return repeated[: rows * columns].view(rows, columns)

    def extra_repr(self) -> str:
        return f"{self.order}"


def _sliding(order: int, surrogate: Surrogate, watched: bool) -> str:
    """A SlidingPSN's step, whose states are the last inputs; `watched` adds the membrane, to be recorded."""
    weights = [f"w{i}" for i in range(order)]
    past = [f"x{i}" for i in range(order - 1)]

    def step(x: Symbol, p: Symbols, s: Symbols) -> Sequence[Symbol]:
        inputs = [*(s[k] for k in past), x]
        v = p["w0"] * inputs[0]
        for weight, value in zip(weights[1:], inputs[1:], strict=True):
            v = v + p[weight] * value
        z: Any = spike(cast(Tensor, v - p["threshold"]), surrogate)
        return [z, *inputs[1:], *([v] if watched else [])]

    key = ("SlidingPSN", order, surrogate, watched)
    return equation(key, [*weights, "threshold"], [*past, *(["v"] if watched else [])], step)


def _no_past(x: Tensor, order: int) -> Tensor:
    return torch.zeros(x.shape[1], order - 1, *x.shape[2:], dtype=state_dtype(x), device=x.device)


def _later_past(past: Tensor, x: Tensor) -> Tensor:
    """The last inputs after x, as many as before."""
    held = past.shape[1]
    recent = x[max(len(x) - held, 0) :].transpose(0, 1).to(past.dtype)
    return torch.cat([past, recent], dim=1)[:, recent.shape[1] :].contiguous()
