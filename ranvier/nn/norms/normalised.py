from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.neurons.neuron import Bound, Neuron
from ranvier.nn.norms._equation import compares_once
from ranvier.nn.norms._run import in_one_kernel, line_of, shaped, step_by_step
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.norm import Norm, real_steps
from ranvier.nn.norms.temporal_batch_norm import TemporalBatchNorm


class Normalised(Stateful):
    """A norm and the neurons behind it in one kernel: the normalised currents are never written, nor kept for backward.

    z = neuron(norm(x)), with the same numbers as the two in a row. With `membrane`, the neuron fires by its normalised
    membrane: z[t] = n[t] >= threshold, n[t] = membrane(v[t]), and the reset acts on v.

    In training a membrane norm takes the statistics of each step before the next can begin, so that the steps run one
    by one; in evaluation it is part of the kernel. So is any norm but TemporalBatchNorm, whose scale changes from step
    to step.

    Input: current x [T, B, features, ...]. Output: what the neuron gives out, same shape.
    Raises: Refusal for what is no norm or neuron, for a membrane norm of a neuron that does not compare one membrane
    with one threshold, and what norm and neuron raise.

    >>> import torch, ranvier
    >>> from ranvier.nn.norms.batch_norm import BatchNorm
    >>> x, layer = torch.randn(6, 4, 3), Normalised(BatchNorm(3), ranvier.LIF())
    >>> torch.equal(layer(x), ranvier.LIF()(BatchNorm(3)(x)))
    True
    """

    def __init__(
        self, norm: Norm | TemporalBatchNorm | None, neuron: Neuron, *, membrane: MembraneBatchNorm | None = None
    ) -> None:
        super().__init__()
        wanted = (
            ("norm", norm, "BatchNorm, ThresholdBatchNorm, TemporalBatchNorm or None", Norm | TemporalBatchNorm | None),
            ("neuron", neuron, "a Neuron", Neuron),
            ("membrane", membrane, "a MembraneBatchNorm or None", MembraneBatchNorm | None),
        )
        for name, value, expected, kinds in wanted:
            if not isinstance(value, kinds) or (name == "norm" and isinstance(value, MembraneBatchNorm)):
                raise Refusal(
                    f"Normalised.{name}",
                    expected=expected,
                    got=type(value).__name__,
                    do="Write Normalised(BatchNorm(C), LIF(), membrane=MembraneBatchNorm(C)).",
                )
        if membrane is not None and not compares_once(neuron):
            raise Refusal(
                "Normalised.membrane",
                expected="a neuron whose step is self.spike(v - self.threshold), once",
                got=type(neuron).__name__,
                do="Normalise its input instead, or choose another neuron, as LIF.",
            )
        self.norm, self.neuron, self.membrane = norm, neuron, membrane
        self.records = neuron.records

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        return self.neuron.rest(x)

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.neuron._refuse_shape(x)
        return self._steps(x, self.rest(x)) if self._one_by_one() else self._fused(x, None)

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self._steps(x, state) if self._one_by_one() else self._fused(x, state)

    def _one_by_one(self) -> bool:
        return wants_reference() or (self.membrane is not None and self.membrane.training)

    def _fused(self, x: Tensor, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        line, membrane, dtype = None, self.membrane, x.dtype
        # torch.compile has its own way of fusing, which ends in front of the kernel
        if isinstance(self.norm, Norm) and not torch.compiler.is_compiling():
            line = line_of(self.norm, x)
        elif self.norm is not None:
            x = self.norm(x.to(state_dtype(x)))
        if membrane is not None:
            membrane.refuse_shape(x)
        values = () if membrane is None else shaped(x, membrane.features, *membrane.line())
        y, after = in_one_kernel(self, self.neuron, x, state, line, values)
        return self._as(dtype, y), after

    def _steps(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        dtype, wide = x.dtype, x.to(state_dtype(x))
        x = wide if self.norm is None else self.norm(wide)
        y, after = step_by_step(self, self.neuron, x, state, self.membrane and partial(_normalised, self.membrane, x))
        return self._as(dtype, y), after

    def _as(self, dtype: torch.dtype, y: Tensor) -> Tensor:
        if y.dtype != dtype:
            self.note("spikes", y := y.to(dtype))
        return y


def _normalised(membrane: MembraneBatchNorm, x: Tensor, bound: Bound) -> Callable[[Tensor], Tensor]:
    membrane.refuse_shape(x)
    mask, threshold = real_steps(x), bound.threshold
    real = iter([None] * len(x) if mask is None else mask.unbind(0))
    return lambda u: membrane.at_step(u + threshold, next(real)) - threshold
