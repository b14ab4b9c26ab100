"""What simulated networks consist of: populations, projections, external spikes; and what comes out, recorded spikes."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ranvier.compile.symbol import Symbol
from ranvier.core.checks import Refusal
from ranvier.deploy.populations.connections import Connection
from ranvier.nn.neurons.neuron import Neuron


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons of one kind: a number of them, that are advanced by the neuron's own `step`.

    The neuron's parameters are one for all or one each. `current` is what all of them, or each, get as x at every step.

    Raises: Refusal for an empty population, and a neuron whose output is not 0 or 1.

    >>> from ranvier.nn.neurons.lif import LIF
    >>> Population(LIF(tau=20.0), 1000, current=1.1).size
    1000
    """

    neuron: Neuron
    size: int
    current: float | Tensor = 0.0

    def __post_init__(self) -> None:
        kind = type(self.neuron).__name__
        if self.size < 1:
            raise Refusal(
                "Population", expected="at least one neuron", got=f"size {self.size}", do="Leave it out of the network."
            )
        if not _is_spike(self.neuron._program(()).output):
            raise Refusal(
                "Population",
                expected="a neuron whose output is 0 or 1",
                got=kind,
                do="A spike delivers each weight once.",
            )
        for name, value in (*((k, getattr(self.neuron, k)) for k in self.neuron.declared), ("current", self.current)):
            shape = tuple(torch.as_tensor(value).shape)
            if shape not in ((), (1,), (self.size,)):
                raise Refusal(
                    f"{kind}.{name}" if name != "current" else "Population.current",
                    expected=f"one number, or one for each of the {self.size} neurons",
                    got=f"shape {shape}",
                    do=f"Write torch.full(({self.size},), ...).",
                )


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses from one population onto a state of another: a spike adds its weight to that state, some steps later.

    What is fired at step t is added at the beginning of step t + delay, before the neurons are advanced. `weight` and
    `delay` are one for all synapses, or, with Pairs, one each. Delays count in steps and are at least 1.

    Raises: Refusal for a delay below one step.

    >>> from ranvier.deploy.populations.connections import FixedProbability
    >>> Projection("E", "I", FixedProbability(0.02), onto="g_e", weight=0.6, delay=15).delay
    15
    """

    source: str
    target: str
    connection: Connection
    onto: str
    weight: float | Tensor
    delay: int | Tensor = 1

    def __post_init__(self) -> None:
        delays, subject = torch.as_tensor(self.delay).numpy(), f"Projection {self.source} -> {self.target}"
        if delays.dtype.kind not in "iu" or (delays.size and delays.min() < 1):
            got = f"{delays.min()}" if delays.size and delays.dtype.kind in "iu" else repr(self.delay)
            raise Refusal(
                f"{subject}.delay",
                expected="whole steps from 1 on",
                got=got,
                do="A spike acts in the next step at the earliest: write round(milliseconds / dt).",
            )
        if not bool(torch.as_tensor(self.weight).isfinite().all()):
            raise Refusal(
                f"{subject}.weight", expected="finite numbers", got="NaN or Inf", do="Check how it is computed."
            )


@dataclass(frozen=True)
class Poisson:
    """External spikes that come at random: each neuron gets its own, `rate` a step on average, and each adds `weight`.

    A neuron with C independent sources of frequency f gets C f dt of them a step.

    Raises: Refusal for a rate that is not in (0, 10000].

    >>> Poisson("E", onto="v", weight=0.1, rate=2.0).rate
    2.0
    """

    target: str
    onto: str
    weight: float
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 10_000:
            raise Refusal(
                "Poisson.rate",
                expected="spikes a step, in (0, 10000]",
                got=repr(self.rate),
                do="Write sources * frequency * dt.",
            )


@dataclass(frozen=True, eq=False)
class Spikes:
    """Who fired when, in the order of time: step `t` [N] int64 and neuron `index` [N] int32.

    >>> spikes = Spikes(torch.tensor([0, 4, 4]), torch.tensor([1, 0, 1], dtype=torch.int32), neurons=2, steps=5)
    >>> len(spikes), spikes.dense().T.tolist()
    (3, [[0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 1.0]])
    """

    t: Tensor
    index: Tensor
    neurons: int
    steps: int
    first: int = 0
    """The step with which the run began."""

    def __len__(self) -> int:
        return len(self.t)

    def dense(self) -> Tensor:
        """0 and 1, [steps, neurons]."""
        found = torch.zeros(self.steps, self.neurons)
        found[self.t - self.first, self.index.long()] = 1
        return found


@dataclass(eq=False)
class Parts:
    """What a network consists of, and what was made of it in this process."""

    populations: dict[str, Population]
    projections: tuple[Projection, ...]
    inputs: tuple[Poisson, ...]
    seed: int
    ready: dict[object, object] = field(default_factory=dict)


def _is_spike(output: Symbol) -> bool:
    """Whether a symbol is 0 or 1 whatever comes in."""
    if output.op == "detach":
        return _is_spike(output.args[0])
    if output.op == "where":
        return all(a.op == "constant" and a.value in (0.0, 1.0) for a in output.args[1:])
    if output.op == "add":  # a draw that passes the gradient of its probability: z + (p - p)
        z, rest = output.args
        return (
            _is_spike(z) and rest.op == "sub" and rest.args[1].op == "detach" and rest.args[1].args[0] is rest.args[0]
        )
    return output.op == "spike"
