"""Networks in the style of brain simulators, and how they run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal, nearest
from ranvier.deploy.populations.parts import Parts, Poisson, Population, Projection, Spikes

__all__ = ["Network", "Poisson", "Population", "Projection", "Spikes"]


class Network(nn.Module):
    """A network in the style of brain simulators: populations, projections with delays, and what comes from outside.

    One step: spikes that arrive, and external ones, are added to the states they go onto; then every neuron is advanced by
    its own `step`. The same seed draws the same synapses and external spikes, on any number of threads and processes.

    Input of `run`: steps, and the state in which an earlier run has ended (None: at rest). Output: recorded Spikes by
    population, and the state: a flat dict of tensors. A run in parts is the whole run, to the bit.
    With `processes=True`, inside a group of torch.distributed, every process advances its share of each population and all get
    all spikes, once per shortest delay; results and state are those of one process.

    Raises: Refusal for a projection or input from, to or onto something that the network does not have, a pair outside its
    populations, and the state of another network.

    >>> from ranvier.deploy.populations.connections import Pairs
    >>> from ranvier.nn.neurons.lif import LIF
    >>> source = Population(LIF(tau=2.0, threshold=0.9), 1, current=1.0)
    >>> net = Network({"a": source, "b": Population(LIF(), 2)}, [Projection("a", "b", Pairs([0], [1]), "v", 2.5, delay=3)])
    >>> spikes, state = net.run(12)
    >>> spikes["a"].t.tolist(), spikes["b"].t.tolist(), spikes["b"].index.tolist()
    ([3, 7, 11], [6, 10], [1, 1])
    """

    def __init__(
        self,
        populations: Mapping[str, Population],
        projections: Sequence[Projection] = (),
        inputs: Sequence[Poisson] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not populations:
            raise Refusal("Network", expected="at least one population", got="none", do="Give {name: Population(...)}.")
        if bad := [name for name in populations if not name or "." in name]:
            raise Refusal(
                "Network", expected="names without a dot", got=repr(bad[0]), do="States are called population.state."
            )
        self.parts = Parts(dict(populations), tuple(projections), tuple(inputs), seed)
        self.neurons = nn.ModuleDict({f"population {k}": p.neuron for k, p in populations.items()})
        every: list[Projection | Poisson] = [*projections, *inputs]
        for one in every:
            kind = type(one).__name__
            ends = (one.target, one.source) if isinstance(one, Projection) else (one.target,)
            for name in ends:
                if name not in populations:
                    raise Refusal(
                        kind, expected="a population of the network", got=repr(name), do=nearest(name, populations)
                    )
            states = populations[one.target].neuron.states
            if one.onto not in states:
                raise Refusal(
                    f"{kind} onto {one.target}",
                    expected=f"a state of {type(populations[one.target].neuron).__name__}",
                    got=repr(one.onto),
                    do=nearest(one.onto, states),
                )

    def __getstate__(self) -> dict[str, object]:
        # made again where it is needed: it knows addresses of this process
        return {**self.__dict__, "parts": replace(self.parts, ready={})}

    def rest(self) -> dict[str, Tensor]:
        """The state in which a run begins where none is given."""
        state = {
            f"{name}.{k}": torch.full((p.size,), float(s.rest))
            for name, p in self.parts.populations.items()
            for k, s in p.neuron.states.items()
        }
        for name in self.parts.populations:
            state[f"{name}.past_t"] = torch.zeros(0, dtype=torch.int64)
            state[f"{name}.past_index"] = torch.zeros(0, dtype=torch.int32)
        return state | {"step": torch.zeros((), dtype=torch.int64), "seed": torch.tensor(self.parts.seed)}

    def run(
        self, steps: int, state: Mapping[str, Tensor] | None = None, *, processes: bool = False
    ) -> tuple[dict[str, Spikes], dict[str, Tensor]]:
        """Recorded spikes and the state after `steps` steps from `state`."""
        if steps < 0:
            raise Refusal(
                "Network.run", expected="a number of steps from 0 on", got=str(steps), do="Write round(duration / dt)."
            )
        state = self._checked(self.rest() if state is None else state)
        if wants_reference():
            from ranvier.deploy.populations.reference import run
        else:
            from ranvier.deploy.populations.simulation import run
        return run(self.parts, steps, state, processes)

    def _checked(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        rest = self.rest()
        for name in (*rest, *state):
            if name not in state or name not in rest:
                raise Refusal(
                    f"state {name!r}",
                    expected="a variable of this network" if name in state else "to be in the state",
                    got="one of another" if name in state else "none",
                    do=nearest(name, rest if name in state else state),
                )
            given, own = state[name], rest[name]
            if given.dtype != own.dtype or (given.shape != own.shape and ".past_" not in name):
                raise Refusal(
                    f"state {name!r}",
                    expected=f"{own.dtype} of shape {tuple(own.shape)}",
                    got=f"{given.dtype} of shape {tuple(given.shape)}",
                    do="Begin with Network.rest() and fill in what differs.",
                )
        for name, population in self.parts.populations.items():
            t, index = state[f"{name}.past_t"], state[f"{name}.past_index"]
            outside = len(index) and (index.min() < 0 or index.max() >= population.size)
            if t.shape != index.shape or outside or bool((t.diff() < 0).any()) or bool((t >= state["step"]).any()):
                raise Refusal(
                    f"state of {name!r}",
                    expected="past spikes in order",
                    got="others",
                    do="Give the state of an earlier run.",
                )
        return dict(state)

    @property
    def populations(self) -> dict[str, Population]:
        """By name; what is changed of their neurons counts at the next run."""
        return self.parts.populations
