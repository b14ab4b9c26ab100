"""Folding norms away for inference."""

from collections import Counter
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize

from ranvier.core.checks import Refusal
from ranvier.nn.coding.direct import Direct
from ranvier.nn.fold import Fold
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.norms._equation import threshold_only_tested
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.norm import Norm
from ranvier.nn.norms.normalised import Normalised
from ranvier.nn.norms.polarised import Polarised
from ranvier.nn.norms.temporal_batch_norm import TemporalBatchNorm

_Synapse = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_NORMS = (Norm, TemporalBatchNorm, _BatchNorm)
_CLEAR = (nn.Identity, _DropoutNd, Direct)
"""What a line for each channel passes through as it is, in evaluation."""


def fold_norms(model: nn.Module) -> nn.Module:
    """A copy of a trained model for inference, without its norms: the same function, at no cost for normalising.

    A norm behind Linear or Conv, alone, in Fold or in Normalised, goes into weights and bias, with its running
    statistics. A membrane norm goes into thresholds of each channel: v >= t where its weight is positive, v <= t where
    it is negative, always or never where it is 0. They become the neuron's own `threshold` where that is possible, else a
    Polarised. Spikes are the same but where a membrane lies on its threshold to within rounding.

    Looks along nn.Sequential and Fold, nested as they may be; in modules of one's own it folds each child for itself.

    Raises: Refusal, with the place, for a norm that has no synapse in front of it, whose synapse is used twice or has
    another number of outputs, and for TemporalBatchNorm, whose scale changes from step to step.

    >>> import torch, ranvier
    >>> from ranvier.nn.norms.batch_norm import BatchNorm
    >>> from ranvier.nn.norms.normalised import Normalised
    >>> model = torch.nn.Sequential(ranvier.Linear(3, 5), Normalised(BatchNorm(5), ranvier.LIF()))
    >>> fold_norms(model)
    Sequential(
      (0): Linear(in_features=3, out_features=5, bias=True)
      (1): LIF(tau=2, threshold=1, reset_mode='zero')
    )
    """
    copy = deepcopy(model).eval()
    uses = Counter(id(m) for _, m in copy.named_modules(remove_duplicate=False))
    folded = _Folding(uses).module(copy, "")
    return nn.Identity() if folded is None else folded


class _Folding:
    """One walk through a model; `before` is the synapse whose output comes next, None where there is none."""

    def __init__(self, uses: Counter[int]) -> None:
        self.uses = uses
        self.before: _Synapse | None = None

    def module(self, module: nn.Module, place: str) -> nn.Module | None:
        """What takes the module's place; None for nothing."""
        if type(module) is nn.Sequential:
            return self._sequence(module, place)
        if isinstance(module, Fold):
            inner = self.module(module.inner, f"{place}.inner" if place else "inner")
            if inner is None:
                return None
            module.inner = inner
            return module
        if isinstance(module, _NORMS):
            self._into_synapse(module, place)
            return None
        if isinstance(module, Normalised):
            return self._neuron(module, place)
        if isinstance(module, _Synapse):
            self.before = module
        elif not isinstance(module, _CLEAR):
            for name, child in list(module.named_children()):
                self.before = None
                module._modules[name] = self.module(child, f"{place}.{name}" if place else name) or nn.Identity()
            self.before = None
        return module

    def _sequence(self, module: nn.Sequential, place: str) -> nn.Module | None:
        for name, child in list(module.named_children()):
            folded = self.module(child, f"{place}.{name}" if place else name)
            if folded is None:
                del module._modules[name]
            else:
                module._modules[name] = folded
        return module if len(module) else None

    def _neuron(self, module: Normalised, place: str) -> nn.Module:
        if module.norm is not None:
            self._into_synapse(module.norm, f"{place}.norm" if place else "norm")
        synapse, self.before = self.before, None
        return module.neuron if module.membrane is None else _thresholds(module.neuron, module.membrane, synapse, place)

    @torch.no_grad()
    def _into_synapse(self, norm: nn.Module, place: str) -> None:
        kind, synapse = type(norm).__name__, self.before
        at = f"{place or 'model'} ({kind})"
        if isinstance(norm, TemporalBatchNorm | MembraneBatchNorm):
            do = (
                "Keep it, or train with BatchNorm." if isinstance(norm, TemporalBatchNorm) else "Give it to Normalised."
            )
            raise Refusal(at, expected="a norm with one line for all steps", got=kind, do=do)
        if synapse is None:
            raise Refusal(
                at,
                expected="Linear or Conv right in front of it, in one nn.Sequential",
                got="none",
                do="Fold the parts that can be folded, and keep this one.",
            )
        mean, scale, shift = _line(norm, at)
        if len(mean) != len(synapse.weight):
            raise Refusal(
                at,
                expected=f"{len(mean)} outputs of {type(synapse).__name__} in front of it",
                got=str(len(synapse.weight)),
                do="Make the norm's features fit.",
            )
        if self.uses[id(synapse)] > 1 or parametrize.is_parametrized(synapse):
            raise Refusal(
                at,
                expected=f"{type(synapse).__name__} in front of it with a weight of its own",
                got="one that is used in several places" if self.uses[id(synapse)] > 1 else "a parametrised one",
                do="Give each place a copy, or remove the parametrisation.",
            )
        weight, bias = synapse.weight.double(), synapse.bias
        moved = (0.0 if bias is None else bias.double()) - mean
        like = synapse.weight
        synapse.weight = nn.Parameter((weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).to(like.dtype))
        synapse.bias = nn.Parameter((moved * scale + shift).to(like.dtype))


def _line(norm: nn.Module, at: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, scale and shift of a norm in evaluation, in float64."""
    if isinstance(norm, Norm):
        norm = norm.double()
        return norm.line()
    assert isinstance(norm, _BatchNorm)
    mean, var, weight, bias = norm.running_mean, norm.running_var, norm.weight, norm.bias
    if mean is None or var is None:
        raise Refusal(
            at, expected="running statistics", got="track_running_stats=False", do="Train it with running statistics."
        )
    scale = torch.rsqrt(var.double() + norm.eps)
    if norm.affine:
        return mean.double(), scale * weight.double(), bias.double()
    return mean.double(), scale, torch.zeros_like(scale)


@torch.no_grad()
def _thresholds(neuron: Neuron, membrane: MembraneBatchNorm, synapse: _Synapse | None, place: str) -> nn.Module:
    own = dict(zip(neuron.declared, neuron._values(), strict=True))["threshold"]
    features, dtype = membrane.features, membrane.running_mean.dtype
    mean, scale, shift = membrane.double().line()
    if own.ndim and own.numel() not in (1, mean.numel()):
        raise Refusal(
            f"{place or 'model'} (MembraneBatchNorm)",
            expected=f"a neuron with one threshold, or one for each of {features}",
            got=f"thresholds {tuple(own.shape)}",
            do="Fold the rest, or give the neuron thresholds of this shape.",
        )
    fires_by = own.double().reshape(features) if own.numel() > 1 else own.double().reshape(())
    always = torch.where(shift >= fires_by, -1.0, 1.0) * (0.25 * torch.finfo(dtype).max)
    level = torch.where(scale == 0, always, mean + (fires_by - shift) / torch.where(scale == 0, 1.0, scale))
    level, polarity = level.to(dtype), torch.where(scale < 0, -1.0, 1.0).to(dtype)
    if synapse is not None and bool((polarity > 0).all()) and threshold_only_tested(neuron):
        low, high = neuron.declared["threshold"].scaled(neuron.dt)[1:]
        if bool(((level >= low) & (level <= high)).all()):
            extra = synapse.weight.ndim - 2 - (len(features) - 1)  # axes of space that the synapse gives out
            value = level.reshape(*features, *[1] * extra)
            neuron._parameters.pop("threshold", None)
            neuron._buffers.pop("threshold", None)
            neuron.register_buffer("threshold", value)
            return neuron
    return Polarised(neuron, level, polarity)
