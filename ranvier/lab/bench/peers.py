"""Our neurons in the words of other packages: one function a package, at settings under which its spikes equal ours.

Each says which options of ours match it where it can't say our defaults, and what it is given: `scale` times our input,
and an output that comes `delay` steps later.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.core.state import state_dtype
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.surrogates import FastSigmoid

INSTALL = {
    "spikingjelly": "pip install --no-deps spikingjelly==2.0.0 loguru==0.7.3 tqdm",
    "snntorch": "pip install --no-deps snntorch==1.0.0",
    "norse": "pip install --no-deps norse==1.1.0 nir==1.0.8 nirtorch h5py",
}


@dataclass(frozen=True)
class Spelling:
    """A neuron of ours in a peer's words."""

    words: str
    function: Callable[[Tensor], Tensor]
    """Input [T, B, ...] to spikes of the same shape; it can be compiled."""
    start: Callable[[], object] = lambda: None
    """To be called before each sequence, outside of what is compiled."""
    learnt: tuple[Tensor, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those of our neuron that match it."""
    scale: float = 1.0
    delay: int = 0


Speller = Callable[[str, Neuron, torch.device], Spelling | str]
"""A neuron's name, an instance at its defaults, and where to compute; a text says why the peer can't say it."""


def spikingjelly(name: str, neuron: Neuron, device: torch.device) -> Spelling | str:
    """Whole sequences, for which it chooses the fastest of its own kernels.

    Functions where it has them: they take the membrane in float32, which its nodes keep in the input's type.
    """
    base = "spikingjelly.activation_based"
    nodes, surrogates, functional = (import_module(f"{base}.{k}") for k in ("neuron", "surrogate", "functional"))
    value = _values(neuron)
    common: dict[str, Any] = {
        "v_threshold": value.get("threshold", 1.0),
        "surrogate_function": surrogates.ATan(_ALPHA),
    }
    atan = f"ATan({_ALPHA:.4g})"
    match name:
        case "lif":
            call = partial(functional.lif_multi_step, tau=value["tau"], **common)
            return Spelling(f"lif_multi_step, {atan}", _Function(call))
        case "integrate-and-fire":
            return Spelling(f"if_multi_step, {atan}", _Function(partial(functional.if_multi_step, **common)))
        case "parametric-lif":
            w = nn.Parameter(torch.tensor(value["w"], device=device))
            call = partial(functional.plif_multi_step, w=w, **common)
            return Spelling(f"plif_multi_step, {atan}", _Function(call), learnt=(w,))
        case "cuba-lif":
            kept = 1 - 1 / value["tau"]
            node = nodes.CUBALIFNode(c_decay=1 - 1 / value["tau_synapse"], v_decay=kept, v_reset=0.0, **common)
            scale, options, changed = 1 - kept, {}, f", input times {1 - kept:g}"
        case "complementary-lif":
            node = nodes.ComplementaryLIFNode(tau=value["tau"], **common)
            scale, options, changed = 1.0, {"reset_mode": "subtract"}, ""
        case _:
            return "it has no such neuron"
    node = node.to(device)
    node.step_mode = "m"
    words = f"{type(node).__name__}, step_mode 'm', {atan}{changed}"
    return Spelling(words, node, lambda: functional.reset_net(node), options=options, scale=scale)


def snntorch(name: str, neuron: Neuron, device: torch.device) -> Spelling | str:
    """Cells in a loop; they don't scale their input by what the leak takes, so it is given scaled.

    Subtracting resets differ: Leaky takes the threshold from the membrane after the next leak.
    """
    package, surrogates = import_module("snntorch"), import_module("snntorch.surrogate")
    value = _values(neuron)
    common = {
        "threshold": value.get("threshold", 1.0),
        "spike_grad": surrogates.atan(_ALPHA),
        "reset_mechanism": "zero",
    }
    options: dict[str, Any] = {"detach_reset": True}
    scale, count, before = 1.0, 1, None
    match name:
        case "lif":
            kept = 1 - 1 / value["tau"]
            cell, scale, words = package.Leaky(beta=kept, **common), 1 - kept, f"Leaky(beta={kept:g})"
        case "integrate-and-fire":
            cell, words = package.Leaky(beta=1.0, **common), "Leaky(beta=1)"
        case "parametric-lif":
            cell = package.Leaky(beta=1 / (1 + math.exp(value["w"])), learn_beta=True, **common)
            before, words = (lambda x: (1 - cell.beta) * x), "Leaky(learn_beta=True) of (1 - beta) x"
        case "cuba-lif":
            kept, count = 1 - 1 / value["tau"], 2
            # with its delayed reset to zero it would also lose the input of the step after a spike
            cell = package.Synaptic(alpha=1 - 1 / value["tau_synapse"], beta=kept, reset_delay=False, **common)
            scale, options, words = 1 - kept, {}, "Synaptic(reset_delay=False)"
        case _:
            return "it has no such neuron"
    cell = cell.to(device)
    changed = f", input times {scale:g}" if scale != 1 else ""
    loop = _Loop(lambda x, state: _split(cell(x, *state)), lambda x: (torch.zeros_like(x),) * count, before)
    return Spelling(
        f"{words} in a loop, reset 'zero', atan({_ALPHA:.4g}){changed}",
        loop,
        learnt=tuple(cell.parameters()),
        options=options,
        scale=scale,
    )


def norse(name: str, neuron: Neuron, device: torch.device) -> Spelling | str:
    """Cells in a loop, dt 1. Its SuperSpike has the slope 1 / (1 + |u|)^2 whatever its alpha."""
    package, parameters = import_module("norse.torch"), import_module("norse.torch.functional.lif_box")
    value = {k: torch.as_tensor(v, device=device) for k, v in _values(neuron).items()}
    zero = torch.zeros((), device=device)
    learnt: tuple[Tensor, ...] = ()
    common = {"v_th": value.get("threshold", zero + 1), "v_reset": zero}
    options, delay, words = {"surrogate": FastSigmoid(width=_SUPER_SPIKE, scale=2.0)}, 0, ""
    match name:
        case "lif":
            p = parameters.LIFBoxParameters(tau_mem_inv=1 / value["tau"], v_leak=zero, **common)
            cell = package.LIFBoxCell(p, dt=1.0)
        case "parametric-lif":
            learnt = (nn.Parameter(torch.sigmoid(value["w"])),)
            p = parameters.LIFBoxParameters(tau_mem_inv=learnt[0], v_leak=zero, **common)
            cell, words = package.LIFBoxCell(p, dt=1.0), " with tau_mem_inv learnt"
        case "integrate-and-fire":
            cell = package.IAFCell(import_module("norse.torch.functional.iaf").IAFParameters(**common), dt=1.0)
        case "cuba-lif":
            p = import_module("norse.torch.functional.lif").LIFParameters(
                tau_syn_inv=1 / value["tau_synapse"], tau_mem_inv=1 / value["tau"], v_leak=zero, **common
            )
            cell = package.LIFCell(p, dt=1.0)
        case "adaptive-lif":
            slow = 1 - 1 / value["tau_adaptation"]
            p = import_module("norse.torch.functional.lsnn").LSNNParameters(
                tau_syn_inv=zero + 1,  # a synapse that forgets at once: what is left of it is a delay
                tau_mem_inv=1 / value["tau"],
                tau_adapt_inv=1 / value["tau_adaptation"],
                v_leak=zero,
                beta=value["beta"] * (1 - slow) / slow,
                **common,
            )
            cell, delay, words = package.LSNNCell(p, dt=1.0), 1, ", output one step later"
        case _:
            return "it has no neuron of this equation"
    text = f"{type(cell).__name__} in a loop, dt 1, method 'super'{words}"
    return Spelling(text, _Loop(cell, lambda x: None), learnt=learnt, options=options, delay=delay)


PEERS: dict[str, Speller] = {"spikingjelly": spikingjelly, "snntorch": snntorch, "norse": norse}

_ALPHA = 4 / math.pi
"""The width parameter of their arctangents that is our Arctan(width=1.0)."""
_SUPER_SPIKE = 2 * (math.sqrt(2) - 1)
"""The width at which our FastSigmoid falls off as 1 / (1 + |u|)^2."""


class _Loop(nn.Module):
    """A cell over all steps. Time is unbound, since indexing it would make the backward pass quadratic in its length."""

    def __init__(
        self,
        cell: Callable[[Tensor, Any], tuple[Tensor, Any]],
        rest: Callable[[Tensor], Any],
        before: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.cell, self.rest, self.before = cell, rest, before

    def forward(self, x: Tensor) -> Tensor:
        state, spikes = self.rest(x[0]), []
        for x_t in (x if self.before is None else self.before(x)).unbind(0):
            z, state = self.cell(x_t, state)
            spikes.append(z)
        return torch.stack(spikes)


class _Function(nn.Module):
    """A function of a sequence and the membrane before it, from rest."""

    def __init__(self, call: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, torch.zeros(x.shape[1:], dtype=state_dtype(x), device=x.device))[0]


def _split(result: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    return result[0], result[1:]


def _values(neuron: Neuron) -> dict[str, float]:
    return {name: float(getattr(neuron, name).detach()) for name in neuron.declared}
