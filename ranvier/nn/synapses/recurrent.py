import warnings
from functools import cache

import torch
from torch import Tensor, nn

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal
from ranvier.core.random import Draws
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.neurons.neuron import Neuron, reference
from ranvier.nn.synapses.linear import Linear
from ranvier.ops.recurrent_scan import recurrent_scan
from ranvier.ops.recurrent_scan.reference import hearing_itself


class Recurrent(Stateful):
    """Neurons that feed each other: the spikes of one step are input of the next, through a synapse of their own.

    z[t] = neuron(x[t] + synapse(z[t-1])).

    With a Linear synapse all steps are one kernel; with any other they are a loop, which a warning says once.

    Input: current x [T, B, ...features]; the synapse gets single steps [1, B, ...features]. Output: what the neuron
    gives out, same shape.
    Raises: Refusal for a stateful synapse, for a Linear one that doesn't lead from the features to themselves, and what
    the neuron raises.
    Source: Bellec et al., NeurIPS 2018 (recurrent spiking networks trained by gradients).

    >>> import torch, ranvier
    >>> layer = Recurrent(ranvier.LIF(), torch.nn.Linear(8, 8, bias=False))
    >>> y, state = ranvier.run(layer, torch.ones(5, 2, 8)); y.shape, list(state)
    (torch.Size([5, 2, 8]), ['v', 'z'])
    """

    def __init__(self, neuron: Neuron, synapse: nn.Module) -> None:
        super().__init__()
        for name, module in synapse.named_modules():
            if isinstance(module, Stateful):
                raise Refusal(
                    "Recurrent",
                    expected="a synapse without state",
                    got=f"{type(module).__name__} at {name or 'its root'!r}",
                    do="Put it before or after the Recurrent.",
                )
        self.neuron, self.synapse = neuron, synapse
        self.records = neuron.records

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        return {**self.neuron.rest(x), "z": torch.zeros(x.shape[1:], dtype=state_dtype(x), device=x.device)}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        # a compiler takes the loop apart itself, and hooks on the synapse want to see each of its calls
        if wants_reference() or torch.compiler.is_compiling() or _watched(self.synapse):
            return self._loop(x, state)
        if isinstance(self.synapse, nn.Linear) and type(self.synapse).forward in (nn.Linear.forward, Linear.forward):
            return self._fused(x, self.synapse, state)
        _say_once(type(self.synapse).__name__)
        return self._loop(x, state)

    def _fused(self, x: Tensor, synapse: nn.Linear, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        neuron = self.neuron
        record = tuple([k for k in neuron.states if self.wants(k)])
        y, z, finals, records = recurrent_scan(
            neuron._equation,
            x,
            synapse.weight,
            synapse.bias,
            state["z"],
            neuron._values(),
            [state[k] for k in neuron.states],
            record,
            (state["seed"], state["step"]) if neuron.random else None,
            neuron.temporal_grad == "full",
        )
        for name, value in zip(("spikes", *record), (y, *records), strict=True):
            self.note(name, value)
        return y, {**dict(zip(neuron.states, finals, strict=True)), "z": z} | neuron.later(x, state)

    def _loop(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        neuron = self.neuron.bind(state_dtype(x))
        if self.neuron.random:
            neuron.draws = Draws(state["seed"], state["step"], x.shape[2:])
        weight = next(self.synapse.parameters(), x)

        def through(z: Tensor) -> Tensor:
            current: Tensor = self.synapse(z.to(weight.dtype)[None])[0]
            return current.to(z.dtype)

        step = hearing_itself(neuron.advance_one_step, through, self.neuron.temporal_grad == "full")
        y, after = reference(self, step, x, {k: state[k] for k in (*self.neuron.states, "z")})
        return y, after | self.neuron.later(x, state)


def _watched(synapse: nn.Module) -> bool:
    hooks = (synapse._forward_hooks, synapse._forward_pre_hooks, synapse._backward_hooks, synapse._backward_pre_hooks)
    return any(hooks)


@cache
def _say_once(kind: str) -> None:
    warnings.warn(
        f"Recurrent: a {kind} synapse is not fused with its neurons, so each step is a call of its own. A Linear one is.",
        stacklevel=4,
    )
