from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.neurons.neuron import Bound, Neuron
from ranvier.nn.surrogates import Arctan
from ranvier.nn.units.courses import after, stacked, unrounded
from ranvier.nn.units.late_reset import Leaky, Synaptic
from ranvier.nn.units.legendre_memory import legendre_matrices


def leaky(b: float = 0.9, threshold: float = 1.0) -> Neuron:
    """A population of Leaky neurons that learns its decay and its threshold."""
    return Leaky(b=_learnt(b), threshold=_learnt(threshold), surrogate=Arctan(width=2 * threshold))


def synaptic(a: float = 0.5, b: float = 0.9, threshold: float = 1.0) -> Neuron:
    """A population of Synaptic neurons that learns its decays and its threshold."""
    return Synaptic(a=_learnt(a), b=_learnt(b), threshold=_learnt(threshold), surrogate=Arctan(width=2 * threshold))


def _learnt(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


class SpikingLegendreMemory(Stateful):
    """Legendre memory unit whose every signal is spikes (L2MU): populations for its inputs, its memory, its hidden layer.

    u[t] = N_u(E_x x[t] + E_h h[t-1] + E_m m[t-1]); m[t] = N_m(A m[t-1] + B u[t]);
    h[t] = N_h(W_x x[t] + W_h h[t-1] + W_m m[t]). A and B are those of `legendre_matrices`, fixed; `matrices` gives others.

    - memories: number of signals u that are remembered, each by `order` neurons
    - neuron, memory_neuron: make a population N, and that of the memory where it is to be another; `leaky` and
      `synaptic` learn decays and a threshold of 0.05 or more for each
    With neurons that give out their input it is the Legendre memory unit of real numbers.

    Input: spikes x [T, B, in_features]. Output: spikes h [T, B, hidden].
    Raises: Refusal for another shape, populations that draw random numbers and matrices of another size.
    Source: Fra, Leto, Pignata, Macii and Urgese, ICANN 2024 (L2MU).

    >>> import ranvier
    >>> unit = SpikingLegendreMemory(6, 16, memories=2, order=4, window=10)
    >>> h, state = ranvier.run(unit, torch.ones(5, 3, 6)); h.shape, sorted(state)
    (torch.Size([5, 3, 16]), ['h', 'h_v', 'm', 'm_v', 'u_v'])
    """

    records = ("u", "m", "h")
    transition: Tensor
    entry: Tensor

    def __init__(
        self,
        in_features: int,
        hidden: int,
        *,
        memories: int,
        order: int,
        window: float,
        neuron: Callable[[], Neuron] = leaky,
        memory_neuron: Callable[[], Neuron] | None = None,
        matrices: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.hidden, self.memories, self.order = in_features, hidden, memories, order
        self.window = window
        transition, entry = legendre_matrices(order, window) if matrices is None else matrices
        if transition.shape != (order, order) or entry.shape != (order,):
            raise Refusal(
                "SpikingLegendreMemory.matrices",
                expected=f"A [{order}, {order}] and B [{order}]",
                got=f"{tuple(transition.shape)} and {tuple(entry.shape)}",
                do="Give the pair that legendre_matrices(order, window) would give.",
            )
        self.register_buffer("transition", transition.to(torch.get_default_dtype()))
        self.register_buffer("entry", entry.to(torch.get_default_dtype()))
        # one product for what several populations get from the same place
        self.from_input = nn.Linear(in_features, memories + hidden, bias=False)
        self.from_hidden = nn.Linear(hidden, memories + hidden, bias=False)
        self.encode_memory = nn.Linear(memories * order, memories, bias=False)
        self.from_memory = nn.Linear(memories * order, hidden, bias=False)
        self.u, self.m, self.h = neuron(), (memory_neuron or neuron)(), neuron()
        if any(population.random for population in (self.u, self.m, self.h)):
            raise Refusal(
                "SpikingLegendreMemory.neuron",
                expected="neurons that draw no random numbers",
                got=type(self.u).__name__,
                do="Take the default, or other neurons without draws.",
            )

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if x.ndim != 3 or x.shape[-1] != self.in_features or not x.is_floating_point():
            raise Refusal(
                "SpikingLegendreMemory",
                expected=f"floating-point [T, B, {self.in_features}], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add a missing axis with unsqueeze, flatten features with nn.Flatten(2), convert with x.float().",
            )
        shapes = {"u": (self.memories,), "m": (self.memories, self.order), "h": (self.hidden,)}
        made: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            like = x.new_empty(1, x.shape[1], *shape)
            made |= {f"{name}_{k}": v for k, v in self._population(name).rest(like).items()}
        zeros = {k: x.new_zeros(x.shape[1], *shapes[k], dtype=state_dtype(x)) for k in ("m", "h")}
        return made | zeros

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        dtype = state_dtype(x)
        state = dict(state)
        transition, entry = self.transition.to(dtype).T, self.entry.to(dtype)
        with unrounded(x):
            bound = {name: self._population(name).bind(dtype) for name in "umh"}
            from_hidden, encode_memory, from_memory = (
                layer.weight.to(dtype) for layer in (self.from_hidden, self.encode_memory, self.from_memory)
            )
            inputs = functional.linear(x.to(dtype), self.from_input.weight.to(dtype))
            m, h = state["m"], state["h"]
            courses: dict[str, list[Tensor]] = {"u": [], "m": [], "h": []}
            for input_t in inputs.unbind(0):
                given = input_t + functional.linear(h, from_hidden)
                to_u, to_h = given[:, : self.memories], given[:, self.memories :]
                u = self._step(bound, "u", to_u + functional.linear(m.flatten(1), encode_memory), state)
                m = self._step(bound, "m", m @ transition + u[..., None] * entry, state)
                h = self._step(bound, "h", to_h + functional.linear(m.flatten(1), from_memory), state)
                for name, value in zip("umh", (u, m, h), strict=True):
                    courses[name].append(value)
        firsts = {"u": x.new_zeros(x.shape[1], self.memories, dtype=dtype), "m": state["m"], "h": state["h"]}
        for name in self.records:
            if name == "h" or self.wants(name):
                self.note(name, stacked(firsts[name], courses[name]))
        y = stacked(state["h"], courses["h"])
        return y.to(x.dtype), {**state, "m": m, "h": after(y, state["h"])}

    def _population(self, name: str) -> Neuron:
        population = getattr(self, name)
        assert isinstance(population, Neuron)
        return population

    def _step(self, bound: dict[str, Bound], name: str, current: Tensor, state: dict[str, Tensor]) -> Tensor:
        """What the population gives out; its new states go into `state`."""
        keys = [f"{name}_{k}" for k in self._population(name).states]
        z, *values = bound[name].advance_one_step(current, *(state[k] for k in keys))
        state.update(zip(keys, values, strict=True))
        return z

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.hidden}, memories={self.memories}, order={self.order}, window={self.window:g}"
        )
