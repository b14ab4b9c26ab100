"""Spike-timing-dependent plasticity over whole sequences, with work only where a spike is."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal, nearest
from ranvier.ops.spike_pack import on_cpu
from ranvier.ops.spike_pack.kinds import are_spikes
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp import reference
from ranvier.ops.stdp.reference import Neurons, State
from ranvier.ops.stdp.rule import Rule


@torch.no_grad()
def stdp(
    weight: Tensor, pre: Tensor | Spikes, post: Tensor | Spikes, rule: Rule, state: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, State]:
    """Weights [B, I, O] and traces after the spikes pre [T, B, I] and post [T, B, O]; each sample changes its own weights.

    `state` holds the traces as an earlier call returned them; None: all are 0. Without gradients.

    >>> rule = Rule(a_plus=0.1, a_minus=0.2, tau_plus=20.0, tau_minus=20.0)
    >>> weight, state = stdp(torch.full((1, 1, 1), 0.5), torch.ones(1, 1, 1), torch.ones(1, 1, 1), rule)
    >>> f"{weight.item():.2f}"
    '0.60'
    """
    batch, _, outputs = _refused(rule.name, weight, pre)
    if tuple(post.shape) != (len(pre), batch, outputs):
        expected = f"{(len(pre), batch, outputs)} [T, B, O]"
        raise Refusal(
            f"{rule.name} post", expected=expected, got=f"shape {tuple(post.shape)}", do="Give both the same steps."
        )
    rest = traces(rule, weight)
    given = _known(rule.name, state, rest)
    if _plain(weight):
        return reference.stdp(weight, dense(pre, weight), dense(post, weight), given, rule)
    from ranvier.ops.stdp import cpu

    return cpu.stdp(weight, events(rule.name, pre), events(rule.name, post), given, rule)


@torch.no_grad()
def stdp_layer(
    x: Tensor | Spikes, neurons: Neurons, rule: Rule | None, state: Mapping[str, Tensor]
) -> tuple[Tensor, State]:
    """Spikes [T, B, O] of competing plastic neurons for spikes x [T, B, I], and the state after them.

    `state` holds weight [B, I, O], v, z, theta [B, O] and the rule's traces; without a `rule` the weights rest, and its
    weight may be one for all, [1, I, O] expanded.
    """
    name = "stdp_layer" if rule is None else rule.name
    weight = state["weight"]
    batch, _, outputs = _refused(name, weight, x)
    rest = {k: weight.new_zeros(batch, outputs) for k in ("v", "z", "theta")}
    given = {"weight": weight, **_known(name, state, rest if rule is None else rest | traces(rule, weight))}
    if _plain(weight):
        return reference.layer(dense(x, weight), given, neurons, rule)
    from ranvier.ops.stdp import cpu

    return cpu.layer(events(name, x), given, neurons, rule)


def traces(rule: Rule, weight: Tensor) -> State:
    """A rule's traces for weights [B, I, O] before any spike."""
    return {k: weight.new_zeros(weight.shape[0], weight.shape[1 + side]) for k, (side, _) in rule.traces.items()}


def events(name: str, x: Tensor | Spikes) -> Spikes:
    """Spikes as kernels take them; graded ones are refused."""
    given = x.values if isinstance(x, Spikes) else x
    if given is not None and not are_spikes(given):
        odd = given[(given != 0) & (given != 1)][0]
        do = "Give a neuron's spike as 1; twice in a step it does not fire."
        raise Refusal(name, expected="spikes, each 0 or 1", got=f"{odd:g}", do=do)
    return x if isinstance(x, Spikes) else Spikes.from_dense(x)


def dense(x: Tensor | Spikes, like: Tensor) -> Tensor:
    """Spikes as the reference takes them."""
    given = (x.dense(like.dtype) != 0) if isinstance(x, Spikes) else x
    return given.to(like.dtype)


def _plain(weight: Tensor) -> bool:
    return torch.compiler.is_compiling() or wants_reference() or not on_cpu(weight)


def _refused(name: str, weight: Tensor, x: Tensor | Spikes) -> tuple[int, int, int]:
    if weight.ndim != 3 or weight.dtype not in (torch.float32, torch.float64):
        raise Refusal(
            f"{name} weight",
            expected="float32 or float64 [B, I, O]",
            got=f"{weight.dtype} of shape {tuple(weight.shape)}",
            do="Give each sample its weights: weight.expand(B, -1, -1).",
        )
    batch, inputs, outputs = weight.shape
    if x.ndim != 3 or tuple(x.shape[1:]) != (batch, inputs):
        raise Refusal(
            f"{name} pre",
            expected=f"[T, {batch}, {inputs}], time first",
            got=f"shape {tuple(x.shape)}",
            do="Flatten the features.",
        )
    return batch, inputs, outputs


def _known(name: str, state: Mapping[str, Tensor] | None, rest: State) -> State:
    """The tensors of `state` that `rest` has, of its shapes and dtypes; `rest` without a state."""
    if state is None:
        return rest
    for key, value in rest.items():
        if key not in state:
            raise Refusal(f"{name} state", expected=f"an entry {key!r}", got="none", do=nearest(key, state))
        if state[key].shape != value.shape or state[key].dtype != value.dtype:
            raise Refusal(
                f"{name} state {key!r}",
                expected=f"{tuple(value.shape)} {value.dtype}",
                got=f"{tuple(state[key].shape)} {state[key].dtype}",
                do="Continue with the same batch size and dtype.",
            )
    return {key: state[key] for key in rest}
