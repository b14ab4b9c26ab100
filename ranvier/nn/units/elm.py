import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal, nearest
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.units.courses import after, unrounded
from ranvier.nn.units.leaky_memory import Unit, hoisted, plain


class ELM(Stateful):
    """Expressive leaky memory neuron: leaky synapses on branches, an MLP as dendrite, many slow memory units.

    b[t] = kappa_s b[t-1] + sum over the synapses of each branch of relu(w) x[t]; p[t] = kappa_m m[t-1];
    m[t] = p[t] + g 1.7159 tanh(2/3 MLP([b[t], p[t]])); y[t] = W m[t] + c; kappa = exp(-dt / tau).
    The gain g is `gain` (1 - kappa_m) in version 1, and 1 - exp(-dt gain / tau_m) in version 2, which stays below 1.
    Version 1 leaks at every synapse and then sums; with one tau for all synapses that is the same b, and b is carried.

    - memory: number of memory units; their time constants lie evenly in log from tau_memory[0] to tau_memory[1]
    - branches, synapses: number of branches, and of synapses on each; by default a branch with one synapse per input
    - routing: which input a synapse gets. "none": the inputs in order; "random": drawn from `generator`; "windows":
      overlapping windows over inputs of which the first half is excitatory and the second inhibitory, interleaved
    - hidden: units of the MLP's one hidden layer (2 memory); activation "relu" or "silu"
    - learn_tau: learn the time constants of the memory, inside tau_memory
    - dt: the time step, in the unit of the time constants

    Inhibition is the sign of the input: synapses are not negative.

    Input: [T, B, in_features]. Output: [T, B, out_features].
    Raises: Refusal for another shape, for branches that the inputs don't fill, and for options that are not known.
    Source: Spieler et al., ICLR 2024 (ELM and Branch-ELM); version 2 is that of their later code.

    >>> import torch, ranvier
    >>> layer = ELM(6, 2, memory=3, branches=2)
    >>> y, state = ranvier.run(layer, torch.ones(5, 4, 6)); y.shape, {k: tuple(v.shape) for k, v in state.items()}
    (torch.Size([5, 4, 2]), {'b': (4, 2), 'm': (4, 3)})
    >>> layer.tau
    tensor([   1.0000,   31.6228, 1000.0000])
    """

    records = ("b", "m")
    index: Tensor | None
    fixed_tau: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        memory: int = 100,
        *,
        branches: int | None = None,
        synapses: int | None = None,
        routing: Literal["none", "random", "windows"] = "none",
        hidden: int | None = None,
        activation: Literal["relu", "silu"] = "relu",
        version: Literal[1, 2] = 1,
        tau_synapse: float = 5.0,
        tau_memory: tuple[float, float] = (1.0, 1000.0),
        learn_tau: bool = False,
        gain: float = 5.0,
        dt: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _known("routing", routing, ("none", "random", "windows"))
        _known("activation", activation, ("relu", "silu"))
        _known("version", version, (1, 2))
        hidden = 2 * memory if hidden is None else hidden
        branches = in_features if branches is None else branches
        _positive(in_features=in_features, out_features=out_features, memory=memory, hidden=hidden, branches=branches)
        _positive(tau_synapse=tau_synapse, gain=gain, dt=dt, tau_memory=tau_memory[0], synapses=synapses or 1)
        low, high = tau_memory
        if not (low < high if learn_tau else low <= high) or high == math.inf:
            raise Refusal(
                "ELM.tau_memory",
                expected="the shortest and the longest time constant",
                got=repr(tau_memory),
                do="Give the shorter one first; to be learnt they must differ.",
            )
        self.in_features, self.out_features, self.memory, self.branches = in_features, out_features, memory, branches
        self.synapses = _synapses(in_features, branches, synapses, routing)
        self.routing, self.activation, self.version = routing, activation, version
        self.tau_synapse, self.tau_memory, self.gain, self.dt = tau_synapse, (low, high), gain, dt

        self.weight = nn.Parameter(torch.full((branches * self.synapses,), 0.5))
        self.into = nn.Linear(branches + memory, hidden)
        self.out = nn.Linear(hidden, memory)
        self.readout = nn.Linear(memory, out_features)
        self.register_buffer("index", self._routed(generator))
        tau = torch.logspace(math.log10(low), math.log10(high), memory, dtype=torch.float64)
        if learn_tau:
            # in float64 and away from the ends, where a sigmoid in float32 would have no gradient left
            place = ((tau - low) / (high - low)).clamp(1e-6, 1 - 1e-6)
            self.raw_tau = nn.Parameter(place.logit().to(self.weight.dtype))
        else:
            self.register_buffer("fixed_tau", tau.to(self.weight.dtype))

    @property
    def tau(self) -> Tensor:
        """The time constants of the memory units [memory]."""
        if "raw_tau" not in self._parameters:
            return self.fixed_tau
        low, high = self.tau_memory
        return low + (high - low) * self.raw_tau.sigmoid()

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if x.ndim != 3 or x.shape[-1] != self.in_features or not x.is_floating_point():
            raise Refusal(
                "ELM",
                expected=f"floating-point [T, B, {self.in_features}], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add a missing axis with unsqueeze, flatten features with nn.Flatten(2), convert with x.float().",
            )
        b, m = (torch.zeros(x.shape[1], n, dtype=state_dtype(x), device=x.device) for n in (self.branches, self.memory))
        return {"b": b, "m": m}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        dtype = state_dtype(x)
        with unrounded(x):
            unit, u = self._unit(dtype), self._branch_input(x.to(dtype))
            loop = plain if wants_reference() else hoisted
            b, m = loop(unit, u, state["b"], state["m"])
            readout = self.readout
            y = functional.linear(m, readout.weight.to(dtype), readout.bias.to(dtype)).to(x.dtype)
        self.note("b", b)
        self.note("m", m)
        return y, {"b": after(b, state["b"]), "m": after(m, state["m"])}

    def _routed(self, generator: torch.Generator | None) -> Tensor | None:
        """For each synapse the input that it gets; in_features for none."""
        if self.routing == "none":
            return None
        if self.routing == "random":
            return torch.randint(self.in_features, (self.branches * self.synapses,), generator=generator)
        stride = -(-self.in_features // self.branches)
        window = stride * torch.arange(self.branches)[:, None] + torch.arange(self.synapses)
        interleaved = torch.arange(self.in_features).reshape(2, -1).T.flatten()
        return torch.cat([interleaved, torch.tensor([self.in_features])])[window.clamp_max(self.in_features).flatten()]

    def _branch_input(self, x: Tensor) -> Tensor:
        """The weighted inputs of each branch's synapses, summed: [T, B, branches]."""
        weight = self.weight.to(x.dtype).relu()
        if self.index is None:
            weighted = x * weight
            if self.synapses == 1:
                return weighted
            return weighted.reshape(*x.shape[:-1], self.branches, self.synapses).sum(-1)
        # a matrix product with what each branch takes of each input: routed inputs, of which there are many, aren't kept
        branch = torch.arange(self.branches, device=x.device).repeat_interleave(self.synapses)
        taken = x.new_zeros(self.in_features + 1, self.branches).index_put(
            (self.index, branch), weight, accumulate=True
        )
        return x @ taken[:-1]

    def _unit(self, dtype: torch.dtype) -> Unit:
        tau = self.tau.to(dtype)
        leak = -torch.expm1(-self.dt / tau)
        gain = self.gain * leak if self.version == 1 else -torch.expm1(-self.dt * self.gain / tau)
        synapse = torch.tensor(-math.expm1(-self.dt / self.tau_synapse), dtype=dtype, device=tau.device)
        into, into_bias = self.into.weight.to(dtype), self.into.bias.to(dtype)
        out, out_bias = self.out.weight.to(dtype), self.out.bias.to(dtype)
        return Unit(self.activation, synapse, leak, gain, into, into_bias, out, out_bias)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, memory={self.memory}, branches={self.branches}, "
            f"synapses={self.synapses}, routing={self.routing!r}, version={self.version}"
        )


def _known(option: str, chosen: object, known: tuple[object, ...]) -> None:
    if chosen not in known:
        names = [str(k) for k in known]
        raise Refusal(f"ELM.{option}", expected=f"one of {known}", got=repr(chosen), do=nearest(str(chosen), names))


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise Refusal(f"ELM.{name}", expected="a positive number", got=repr(number), do=f"Choose {name} above 0.")


def _synapses(inputs: int, branches: int, synapses: int | None, routing: str) -> int:
    """How many synapses a branch has."""
    if routing == "none":
        if inputs % branches or synapses not in (None, inputs // branches):
            raise Refusal(
                "ELM",
                expected="branches that share the inputs evenly, when routing is 'none'",
                got=f"{inputs} inputs, {branches} branches of {synapses or 'any number of'} synapses",
                do="Choose branches that divide in_features and leave synapses out, or another routing.",
            )
        return inputs // branches
    synapses = synapses or 1
    if routing == "windows" and (inputs % 2 or -(-inputs // branches) > synapses):
        raise Refusal(
            "ELM",
            expected="an even number of inputs and windows that cover them all",
            got=f"{inputs} inputs, {branches} branches of {synapses} synapses",
            do=f"Give excitatory inputs, then as many inhibitory ones, and {-(-inputs // branches)} synapses or more.",
        )
    return synapses
