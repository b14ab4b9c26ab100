import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.random import Draws
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.neurons.neuron import Neuron, reference


class Recurrent(Stateful):
    """Neurons that feed each other: the spikes of one step are input of the next, through a synapse of their own.

    z[t] = neuron(x[t] + synapse(z[t-1])).

    Input: current x [T, B, ...features]; the synapse gets single steps [1, B, ...features]. Output: what the neuron
    gives out, same shape.
    Raises: Refusal for a stateful synapse, and what the neuron raises.
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
        neuron = self.neuron.bind(state_dtype(x))
        if self.neuron.random:
            neuron.draws = Draws(state["seed"], state["step"], x.shape[2:])
        weight = next(self.synapse.parameters(), x)

        def step(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
            *states, z = values
            if self.neuron.temporal_grad == "none":
                z = z.detach()
            z, *states = neuron.advance_one_step(x + self.synapse(z.to(weight.dtype)[None])[0].to(x.dtype), *states)
            return z, *states, z

        y, after = reference(self, step, x, {k: state[k] for k in (*self.neuron.states, "z")})
        return y, after | self.neuron.later(x, state)
