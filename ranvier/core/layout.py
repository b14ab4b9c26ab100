"""Layout traps: modules that would silently mix time, batch and features of a [T, B, ...] tensor."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.optim.swa_utils import AveragedModel

from ranvier.core.checks import Refusal

_WRONG_AXIS = (_BatchNorm, _InstanceNorm, nn.GroupNorm)
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def wrapped(module: nn.Module) -> str | None:
    """The name under which a wrapper (DDP, FSDP, torch.compile ...) holds what it wraps; None for any other module."""
    for name in ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"):
        if name in module._modules:
            return name
    return "module" if isinstance(module, _WRAPPERS) else None


def refuse_traps(model: nn.Module, name: str = "") -> bool:
    """Refuse a norm over the wrong axis, or a Flatten that merges the batch; say whether a sequence comes out.

    Looks only where the layout is known: along nn.Sequential from the model's root, as far as a decoder, which ends
    time. What a module of one's own does in its forward is its own affair.
    """
    inner = wrapped(model)
    if inner is not None:
        return refuse_traps(model.get_submodule(inner), name)
    if isinstance(model, nn.Sequential):
        return all(
            refuse_traps(child, f"{name}.{child_name}" if name else child_name)
            for child_name, child in model.named_children()
        )
    if isinstance(model, _WRONG_AXIS):
        raise Refusal(
            f"{name or 'model'} ({type(model).__name__})",
            expected="a norm over features",
            got="one whose axis 1 is the batch of a [T, B, ...] tensor",
            do=f"Fold time into the batch: ranvier.Fold(nn.{type(model).__name__}(...)).",
        )
    if isinstance(model, nn.Flatten) and 0 <= model.start_dim < 2:
        raise Refusal(
            f"{name or 'model'} (Flatten)",
            expected="start_dim of 2 or more",
            got=f"start_dim={model.start_dim}, which merges the batch of a [T, B, ...] tensor",
            do="Write nn.Flatten(2), or ranvier.Fold(nn.Flatten()).",
        )
    return not getattr(model, "ends_time", False)
