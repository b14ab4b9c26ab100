"""A winner-take-all circuit of conductance-based neurons whose input and output synapses are plastic."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal, nearest
from ranvier.ops.spike_pack import on_cpu
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp import dense, events
from ranvier.ops.stdp.reference import State
from ranvier.ops.stdp.rule import Rule
from ranvier.ops.winner_take_all import reference
from ranvier.ops.winner_take_all.circuit import Circuit
from ranvier.ops.winner_take_all.reference import EXCITATORY, INHIBITORY, OUTPUT, TRACES, Outcome

__all__ = ["Circuit", "Outcome", "rest", "winner_take_all"]

rest = reference.rest


@torch.no_grad()
def winner_take_all(
    x: Tensor | Spikes,
    state: Mapping[str, Tensor],
    circuit: Circuit,
    rules: tuple[Rule, Rule] | None = None,
    teacher: Tensor | Spikes | None = None,
    record: bool = False,
) -> Outcome:
    """Spikes x [T, B, I] through a circuit from `state`: weight [B, I, N], readout [B, N, C] and what `rest` gives.

    With `rules` (of the input and of the output synapses; pairs only) each sample changes its own weights, and with a `teacher`
    [T, B, C] its spikes are those of C. Output synapses learn only from a teacher. Without `rules` weights, traces and thresholds rest.
    """
    name = "winner_take_all"
    missing = [k for k in ("weight", "readout", *EXCITATORY, *INHIBITORY, *OUTPUT, *TRACES) if k not in state]
    if missing:
        raise Refusal(f"{name} state", expected=f"an entry {missing[0]!r}", got="none", do=nearest(missing[0], state))
    batch, inputs, _ = state["weight"].shape
    if x.ndim != 3 or tuple(x.shape[1:]) != (batch, inputs):
        expected = f"[T, {batch}, {inputs}], time first"
        raise Refusal(name, expected=expected, got=f"shape {tuple(x.shape)}", do="Flatten the features.")
    told = (len(x), batch, state["readout"].shape[2])
    if teacher is not None and tuple(teacher.shape) != told:
        got = f"shape {tuple(teacher.shape)}"
        raise Refusal(f"{name} teacher", expected=f"{told} [T, B, C]", got=got, do="Give it the steps of the input.")
    if rules is not None and any(rule.triplet for rule in rules):
        raise Refusal(
            f"{name} rules", expected="pair rules", got="a triplet rule", do="Leave out a3_plus and a3_minus."
        )
    like = state["weight"]
    if torch.compiler.is_compiling() or wants_reference() or not on_cpu(like):
        said = None if teacher is None else dense(teacher, like)
        return reference.run(dense(x, like), said, dict(state), circuit, rules, record)
    from ranvier.ops.winner_take_all import cpu

    said_events = None if teacher is None else events(name, teacher)
    return cpu.run(events(name, x), said_events, dict(state), circuit, rules, record)
