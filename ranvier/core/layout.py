"""Layout traps: modules that would silently mix time, batch and features of a [T, B, ...] tensor."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ranvier.core.checks import Refusal

_WRONG_AXIS = (_BatchNorm, _InstanceNorm, nn.GroupNorm)


def refuse_traps(model: nn.Module, name: str = "") -> None:
    """Refuse a norm over the wrong axis, or a Flatten that merges the batch.

    Looks only where the layout is known: along nn.Sequential from the model's root. What a module of one's own does
    in its forward is its own affair.
    """
    wrapped = getattr(model, "module", getattr(model, "_orig_mod", None))  # DDP, torch.compile
    if isinstance(wrapped, nn.Module):
        refuse_traps(wrapped, name)
    elif isinstance(model, nn.Sequential):
        for child_name, child in model.named_children():
            refuse_traps(child, f"{name}.{child_name}" if name else child_name)
    elif isinstance(model, _WRONG_AXIS):
        raise Refusal(
            f"{name or 'model'} ({type(model).__name__})",
            expected="a norm over features",
            got="one whose axis 1 is the batch of a [T, B, ...] tensor",
            do=f"Fold time into the batch: ranvier.Fold(nn.{type(model).__name__}(...)).",
        )
    elif isinstance(model, nn.Flatten) and 0 <= model.start_dim < 2:
        raise Refusal(
            f"{name or 'model'} (Flatten)",
            expected="start_dim of 2 or more",
            got=f"start_dim={model.start_dim}, which merges the batch of a [T, B, ...] tensor",
            do="Write nn.Flatten(2), or ranvier.Fold(nn.Flatten()).",
        )
