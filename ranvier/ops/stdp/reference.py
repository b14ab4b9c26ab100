"""Plasticity step by step in plain torch: the truth."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranvier.ops.stdp.rule import Rule

State = dict[str, Tensor]


@dataclass(frozen=True)
class Neurons:
    """Leaky integrate-and-fire neurons that compete.

    u_j[t] = decay v_j[t-1] + sum over i of w_ij x_i[t] - inhibition (number of other neurons' spikes at t-1)
    z_j[t] = 1 where u_j[t] >= threshold + theta_j; v_j[t] = u_j[t] (1 - z_j[t])

    theta falls by exp(-1 / tau_theta) a step and grows by theta_plus at an own spike. With `single`, of the neurons that
    would fire in a step only the one that is furthest above its threshold does.
    """

    decay: float
    threshold: float
    theta_plus: float = 0.0
    tau_theta: float = math.inf
    inhibition: float = 0.0
    single: bool = False


def at_pre(weight: Tensor, fired: Tensor, state: State, rule: Rule) -> Tensor:
    """The weights [B, I, O] after the spikes `fired` [B, I] of a step."""
    factor = rule.a_minus + (rule.a3_minus * state["pre_slow"] if rule.triplet else 0.0) * torch.ones_like(fired)
    change = -factor.unsqueeze(2) * state["post"].unsqueeze(1)
    return _changed(weight, change, fired.unsqueeze(2) != 0, rule.a_minus + rule.a3_minus < 0, rule)


def at_post(weight: Tensor, fired: Tensor, state: State, rule: Rule) -> Tensor:
    """The weights [B, I, O] after the spikes `fired` [B, O] of a step."""
    factor = rule.a_plus + (rule.a3_plus * state["post_slow"] if rule.triplet else 0.0) * torch.ones_like(fired)
    change = state["pre"].unsqueeze(2) * factor.unsqueeze(1)
    return _changed(weight, change, fired.unsqueeze(1) != 0, rule.a_plus + rule.a3_plus > 0, rule)


def _changed(weight: Tensor, change: Tensor, where: Tensor, grows: bool, rule: Rule) -> Tensor:
    if rule.soft:
        change = change * (rule.high - weight if grows else weight - rule.low)
    return torch.where(where, (weight + change).clamp(rule.low, rule.high), weight)


def jumped(trace: Tensor, fired: Tensor, nearest: bool) -> Tensor:
    """A trace after the spikes of a step."""
    return torch.where(fired != 0, torch.ones_like(trace), trace) if nearest else trace + fired


def faded(state: State, rule: Rule) -> State:
    """The state with its traces a step later."""
    return {**state, **{name: state[name] * math.exp(-1 / tau) for name, (_, tau) in rule.traces.items()}}


def learnt(weight: Tensor, pre: Tensor, post: Tensor, state: State, rule: Rule) -> tuple[Tensor, State]:
    """Weights [B, I, O] and traces, which have faded to this step, after its spikes `pre` [B, I] and `post` [B, O]."""
    weight = at_pre(weight, pre, state, rule)
    state = {**state, "pre": jumped(state["pre"], pre, rule.nearest)}
    weight = at_post(weight, post, state, rule)
    for name, fired in (("post", post), ("pre_slow", pre), ("post_slow", post)):
        if name in state:
            state = {**state, name: jumped(state[name], fired, rule.nearest)}
    return weight, state


def stdp(weight: Tensor, pre: Tensor, post: Tensor, state: State, rule: Rule) -> tuple[Tensor, State]:
    """Weights [B, I, O] and traces after pre [T, B, I] and post [T, B, O]."""
    for before, after in zip(pre, post, strict=True):
        weight, state = learnt(weight, before, after, faded(state, rule), rule)
    return weight, state


def layer(x: Tensor, state: State, neurons: Neurons, rule: Rule | None) -> tuple[Tensor, State]:
    """Spikes [T, B, O] of plastic neurons for the spikes x [T, B, I], and the state after them."""
    state, outputs = dict(state), []
    for fired in x:
        if rule is not None:
            state = faded(state, rule)
        weight, theta = state["weight"], state["theta"] * math.exp(-1 / neurons.tau_theta)
        current = (fired.unsqueeze(1) @ weight).squeeze(1)
        others = state["z"].sum(1, keepdim=True) - state["z"]
        u = neurons.decay * state["v"] + current - neurons.inhibition * others
        margin = u - (neurons.threshold + theta)
        z = (margin >= 0).to(u.dtype)
        if neurons.single:
            z = z * torch.nn.functional.one_hot(margin.argmax(1), z.shape[1])
        if rule is not None:
            weight, state = learnt(weight, fired, z, state, rule)
        state = {**state, "weight": weight, "v": u * (1 - z), "z": z, "theta": theta + neurons.theta_plus * z}
        outputs.append(z)
    return torch.stack(outputs) if outputs else x.new_zeros(*x.shape[:2], state["v"].shape[1]), state
