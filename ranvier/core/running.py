"""`run`: a model as a pure function of a sequence and a state; `checkpoint`: the same with memory traded for time."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from ranvier.core.checks import Refusal, nearest
from ranvier.core.layout import refuse_traps, wrapped
from ranvier.core.state import Carrier, Stateful, carry, current

Tensors = dict[str, Tensor]


@overload
def run(
    model: nn.Module, x: Tensor, state: Mapping[str, Tensor] | None = None, *, lengths: Tensor | None = None
) -> tuple[Tensor, Tensors]: ...
@overload
def run(
    model: nn.Module,
    x: Tensor,
    state: Mapping[str, Tensor] | None = None,
    *,
    record: Sequence[str],
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensors, Tensors]: ...
def run(
    model: nn.Module,
    x: Tensor,
    state: Mapping[str, Tensor] | None = None,
    *,
    record: Sequence[str] = (),
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensors] | tuple[Tensor, Tensors, Tensors]:
    """Run `model` over `x` from `state` (None: from rest), and return where it ends.

    Input: x [T, B, ...]; state as an earlier run returned it; lengths [B], the steps of each sequence that are real
    (decoders ignore what lies past the end). Output: y, the new state (a flat dict of tensors by qualified name),
    and with `record=("spikes", "v")` a dict of what the named variables were, [T, B, ...] each.

    Raises: Refusal for a state of another model, batch size or dtype, a name that nothing records, a stateful module
    called twice, and for layouts that would silently mix time, batch and features.

    >>> import torch, ranvier
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), ranvier.LIF())
    >>> x = torch.randn(10, 2, 3)
    >>> whole, _ = ranvier.run(model, x)
    >>> first, state = ranvier.run(model, x[:6])
    >>> second, state = ranvier.run(model, x[6:], state)
    >>> torch.equal(whole, torch.cat([first, second])), list(state)
    (True, ['1.v'])
    """
    refuse_traps(model)
    names = stateful_names(model)
    _refuse_foreign(names, state)
    _refuse_unrecordable(names, record)
    carrier = Carrier(names, state, record, lengths)
    y = carry(carrier, model, x)
    _refuse_left_over(carrier, state)
    # a module that this call skipped keeps its state
    after = {**(state or {}), **carrier.after}
    return (y, after, carrier.recorded) if record else (y, after)


def checkpoint(module: nn.Module, x: Tensor) -> Tensor:
    """`module(x)`, keeping nothing for backward but its input and state, and computing it again there.

    As torch.utils.checkpoint, but right for stateful modules: their state goes in as arguments.

    >>> import torch, ranvier
    >>> layer, x = ranvier.LIF(), torch.randn(5, 2, 3, requires_grad=True)
    >>> bool(torch.equal(ranvier.checkpoint(layer, x), layer(x)))
    True
    """
    outer = current()
    names = (
        stateful_names(module) if outer is None else {m: outer.names[m] for m in module.modules() if m in outer.names}
    )
    before = None if outer is None else outer.before
    record, lengths = ((), None) if outer is None else (outer.record, outer.lengths)
    mine = () if before is None else tuple(k for k in before if any(_owns(n, k) for n in names.values()))
    made: dict[str, Any] = {}

    def again(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        inner = Carrier(names, None if before is None else dict(zip(mine, values, strict=True)), record, lengths)
        y = carry(inner, module, x)
        made.update(state=list(inner.after), record=list(inner.recorded), seen=inner.seen, lengths=inner.lengths)
        return y, *inner.after.values(), *inner.recorded.values()

    values = () if before is None else tuple(before[k] for k in mine)
    y: Tensor
    y, *rest = torch.utils.checkpoint.checkpoint(again, x, *values, use_reentrant=False)
    if outer is not None:
        for name in made["seen"]:
            outer.see(name)
        outer.lengths = made["lengths"]
        outer.after.update(zip(made["state"], rest, strict=False))
        outer.recorded.update(zip(made["record"], rest[len(made["state"]) :], strict=True))
    return y


def stateful_names(model: nn.Module) -> dict[nn.Module, str]:
    """Stateful modules by identity, with their qualified names; wrappers (DDP, torch.compile) leave no trace in them."""
    names: dict[nn.Module, str] = {}
    places: dict[str, tuple[str, str | None]] = {}
    for path, module in model.named_modules():  # a parent comes before its children
        above, _, own = path.rpartition(".")
        name, hop = places[above] if path else ("", "")
        if own != hop:
            name = f"{name}.{own}" if name else own
        places[path] = name, wrapped(module)
        if isinstance(module, Stateful):
            names[module] = name
    return names


def _owns(name: str, key: str) -> bool:
    return key.rpartition(".")[0] == name


def _refuse_foreign(names: Mapping[nn.Module, str], state: Mapping[str, Tensor] | None) -> None:
    for key in state or {}:
        if key.rpartition(".")[0] not in names.values():
            raise Refusal(
                f"state {key!r}",
                expected="an entry of a stateful module of this model",
                got="one of another model",
                do=nearest(key.rpartition(".")[0], [n or "(the model itself)" for n in names.values()]),
            )


def _refuse_left_over(carrier: Carrier, state: Mapping[str, Tensor] | None) -> None:
    for key in state or {}:
        if key not in carrier.after and key.rpartition(".")[0] in carrier.seen:
            raise Refusal(
                f"state {key!r}",
                expected="a variable that its module has",
                got="one of another kind of module",
                do=nearest(key, carrier.after),
            )


def _refuse_unrecordable(names: Mapping[nn.Module, str], record: Sequence[str]) -> None:
    if isinstance(record, str):
        raise Refusal("record", expected="a tuple of names", got=repr(record), do=f"Write record=({record!r},).")
    known = {what for m in names if isinstance(m, Stateful) for what in m.records}
    for what in record:
        if what not in known:
            raise Refusal(
                "record",
                expected="something that a module of the model records",
                got=repr(what),
                do=nearest(what, known),
            )
