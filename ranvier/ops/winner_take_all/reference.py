"""A winner-take-all circuit step by step in plain torch: the truth."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ranvier.ops.stdp.reference import State, faded, learnt
from ranvier.ops.stdp.rule import Rule
from ranvier.ops.winner_take_all.circuit import Circuit

EXCITATORY = ("v", "g_exc", "g_inh", "wait", "z", "theta")
INHIBITORY = ("v_i", "g_i", "wait_i", "z_i")
OUTPUT = ("v_o", "g_o", "wait_o")
TRACES = ("pre", "post", "pre_out", "post_out")


class Outcome(NamedTuple):
    """What a circuit did."""

    output: Tensor
    """[T, B, C] spikes of C"""
    fired: Tensor
    """[B, N] spikes of each E"""
    hidden: Tensor | None
    """[T, B, N] spikes of E, where asked for"""
    state: State


def rest(weight: Tensor, readout: Tensor, theta: Tensor, circuit: Circuit, batch: int) -> State:
    """The state before the first step, theta [N] as it is."""
    inputs, neurons, outputs = *weight.shape[1:], readout.shape[2]
    widths = {**dict.fromkeys(EXCITATORY + INHIBITORY, neurons), **dict.fromkeys(OUTPUT, outputs)}
    state = {name: weight.new_zeros(batch, width) for name, width in widths.items()}
    state["v"] += circuit.rest
    state["v_i"] += circuit.small_rest
    state["v_o"] += circuit.small_rest
    state["theta"] += theta
    for name, width in zip(TRACES, (inputs, neurons, neurons, outputs), strict=True):
        state[name] = weight.new_zeros(batch, width)
    return state


def _moved(v: Tensor, drive: Tensor, wait: Tensor, tau: float, circuit: Circuit) -> tuple[Tensor, Tensor]:
    """The membrane a step later where it is not refractory, and whether it is not."""
    awake = wait <= 0
    return torch.where(awake, (v + circuit.dt / tau * drive).clamp_min(circuit.reversal), v), awake


def _small(s: State, which: str, arriving: Tensor, circuit: Circuit) -> tuple[State, Tensor]:
    """A step of I or C."""
    v, g, wait = s[f"v_{which}"], s[f"g_{which}"] * circuit.falls[0] + arriving, s[f"wait_{which}"]
    v, awake = _moved(v, circuit.small_rest - v - g * v, wait, circuit.small_tau, circuit)
    z = (awake & (v > circuit.small_threshold)).to(v.dtype)
    v = torch.where(z > 0, circuit.small_reset, v)
    wait = torch.where(z > 0, circuit.wait, (wait - 1).clamp_min(0))
    return {**s, f"v_{which}": v, f"g_{which}": g, f"wait_{which}": wait}, z


def run(
    x: Tensor,
    teacher: Tensor | None,
    state: State,
    circuit: Circuit,
    rules: tuple[Rule, Rule] | None,
    record: bool,
) -> Outcome:
    """Spikes x [T, B, I] through the circuit; with a teacher [T, B, C] its spikes are those of C."""
    s, outputs, hidden = dict(state), [], []
    falls, fired = circuit.falls, torch.zeros_like(s["z"])
    for t, x_t in enumerate(x):
        weight, readout = s["weight"], s["readout"]
        if rules is not None:
            first = faded({k: s[k] for k in ("pre", "post")}, rules[0])
            second = faded({"pre": s["pre_out"], "post": s["post_out"]}, rules[1])
        from_i = circuit.inhibition * (s["z_i"].sum(1, keepdim=True) - s["z_i"])
        g_exc = s["g_exc"] * falls[0] + (x_t.unsqueeze(1) @ weight).squeeze(1)
        g_inh = s["g_inh"] * falls[1] + from_i
        s, z_i = _small(s, "i", circuit.to_inhibitory * s["z"], circuit)
        s, z_o = _small(s, "o", (s["z"].unsqueeze(1) @ readout).squeeze(1), circuit)
        drive = circuit.rest - s["v"] - g_exc * s["v"] + g_inh * (circuit.reversal - s["v"])
        v, awake = _moved(s["v"], drive, s["wait"], circuit.tau, circuit)
        theta = s["theta"] * math.exp(-circuit.dt / circuit.tau_theta)
        z = (awake & (v > circuit.threshold + theta)).to(v.dtype)
        wait = torch.where(z > 0, circuit.wait, (s["wait"] - 1).clamp_min(0))
        if teacher is not None:
            z_o = teacher[t]
        if rules is not None:
            rise = circuit.theta_plus * (circuit.theta_start - circuit.theta_pole) / (theta - circuit.theta_pole).abs()
            theta = torch.where(z > 0, theta + rise, theta)
            weight, first = learnt(weight, x_t, z, first, rules[0])
            if teacher is not None:
                readout, second = learnt(readout, z, z_o, second, rules[1])
            s = {**s, **first, "pre_out": second["pre"], "post_out": second["post"]}
        else:
            theta = s["theta"]
        s = {**s, "v": torch.where(z > 0, circuit.reset, v), "g_exc": g_exc, "g_inh": g_inh, "wait": wait, "z": z}
        s = {**s, "theta": theta, "z_i": z_i, "weight": weight, "readout": readout}
        fired = fired + z
        outputs.append(z_o)
        hidden.append(z)
    output = torch.stack(outputs) if outputs else x.new_zeros(*x.shape[:2], state["v_o"].shape[1])
    return Outcome(
        output, fired, (torch.stack(hidden) if hidden else x.new_zeros(0, *fired.shape)) if record else None, s
    )
