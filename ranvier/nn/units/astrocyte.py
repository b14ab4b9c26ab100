import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ranvier.compile.scan import scan, wants_reference
from ranvier.compile.symbol import Symbol
from ranvier.core.checks import Refusal
from ranvier.core.state import state_dtype
from ranvier.nn.surrogates import Arctan, Surrogate, spike
from ranvier.nn.units.courses import Fused, Symbols, after, equation, leaky_sum, stacked


class AMSU(Fused):
    """Astrocyte-modulated spiking unit: a slow astrocyte turns a fast neuron's input up and down.

    c[t] = a c[t-1] + (1 - a) mean over the astrocyte's neurons of (w_z z[t-1] + w_x x[t]), a = exp(-1 / tau);
    v[t] = decay v[t-1] (1 - z[t-1]) + (1 + k_g tanh(c[t])) x[t] + k_h c[t]; z[t] = v[t] >= threshold.
    With `linear` nothing is reset, and x[t] stands for z[t-1] in the astrocyte: both recurrences are linear in x.

    - astrocytes: how many; each has features / astrocytes neighbouring neurons. By default one for every neuron
    - tau: shortest and longest time constant at the start, in steps; even in log over the astrocytes and learnt as log
    - gain, bias: k_g and k_h at the start; they, w_z and w_x (1 at the start) are learnt, one for each neuron

    Fused but for an astrocyte of several neurons whose spikes it sees (not `linear`), which runs as a loop in torch.

    Input: current x [T, B, features]. Output: spikes z, same shape. State: v and c alone, however long the past.
    Raises: Refusal for another shape, for astrocytes that don't share the neurons evenly, and for numbers out of bounds.
    Source: after the idea of Shen et al., arXiv 2312.07625 (2023); the equations are our reading, not theirs.

    >>> import torch
    >>> AMSU(1, tau=(4.0, 4.0))(torch.full((5, 1, 1), 0.6)).flatten().detach()
    tensor([0., 0., 1., 0., 1.])
    """

    records = ("spikes", "v", "c")

    def __init__(
        self,
        features: int,
        astrocytes: int | None = None,
        *,
        tau: tuple[float, float] = (4.0, 1024.0),
        decay: float = 0.5,
        threshold: float = 1.0,
        gain: float = 0.1,
        bias: float = 0.1,
        linear: bool = False,
        surrogate: Surrogate = Arctan(),
    ) -> None:
        super().__init__()
        self.features, self.astrocytes = features, features if astrocytes is None else astrocytes
        if self.astrocytes < 1 or features % self.astrocytes:
            raise Refusal(
                "AMSU",
                expected="astrocytes that share the neurons evenly",
                got=f"{features} neurons, {self.astrocytes} astrocytes",
                do="Choose astrocytes that divide features.",
            )
        shortest, longest = tau
        for name, value, right in (
            ("tau", tau, 0 < shortest <= longest < math.inf),
            ("decay", decay, 0 <= decay <= 1),
            ("threshold", threshold, 0 < threshold < math.inf),  # at rest it doesn't fire
        ):
            if not right:
                expected = {"tau": "0 < shortest <= longest", "decay": "a number in [0, 1]"}.get(
                    name, "a number above 0"
                )
                raise Refusal(f"AMSU.{name}", expected=expected, got=repr(value), do="Time constants count steps.")
        self.decay, self.threshold, self.linear, self.surrogate = decay, threshold, linear, surrogate
        logs = torch.linspace(math.log(shortest), math.log(longest), self.astrocytes, dtype=torch.float64)
        self.log_tau = nn.Parameter(logs.to(torch.get_default_dtype()))
        for name, value in (("k_g", gain), ("k_h", bias), ("w_z", 1.0), ("w_x", 1.0)):
            self.register_parameter(name, nn.Parameter(torch.full((features,), float(value))))

        self.name()

    def equations(self) -> tuple[str, ...]:
        return (self._rule().equation(),)

    def _rule(self) -> "_Rule":
        return _Rule(self.linear, self.decay, self.threshold, self.surrogate)

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if x.ndim != 3 or x.shape[-1] != self.features or not x.is_floating_point():
            raise Refusal(
                "AMSU",
                expected=f"floating-point [T, B, {self.features}], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add a missing axis with unsqueeze, flatten features with nn.Flatten(2), convert with x.float().",
            )
        v, c = (
            torch.zeros(x.shape[1], n, dtype=state_dtype(x), device=x.device) for n in (self.features, self.astrocytes)
        )
        return {"v": v, "c": c}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        dtype, (v, c) = state_dtype(x), (state["v"], state["c"])
        values = {name: getattr(self, name).to(dtype) for name in ("k_g", "k_h", "w_z", "w_x")}
        values["leak"] = -torch.expm1(-torch.exp(-self.log_tau.to(dtype)))  # 1 - a
        rule = self._rule()
        if not wants_reference() and self.astrocytes == self.features:
            z, (v, c), records = scan(self.named[0], x, list(values.values()), [v, c], self._wanted())
            for name, course in zip(self._wanted(), records, strict=True):
                self.note(name, course)
        else:
            both = self._linear_courses if self.linear and not wants_reference() else self._courses
            membrane, astrocyte = both(rule, x.to(dtype), v, c, values)
            z = rule.fired(membrane).to(x.dtype)
            self.note("v", membrane)
            self.note("c", astrocyte)
            v, c = after(membrane, v), after(astrocyte, c)
        self.note("spikes", z)
        return z, {"v": v, "c": c}

    def _wanted(self) -> tuple[str, ...]:
        return tuple(name for name in ("v", "c") if self.wants(name))

    def _courses(
        self, rule: "_Rule", x: Tensor, v: Tensor, c: Tensor, values: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The courses of v and c, as the equations are written."""
        first = v, c
        courses: tuple[list[Tensor], list[Tensor]] = [], []
        for x_t in x.unbind(0):
            c = rule.astrocyte(x_t, v, c, values, self._mean)
            v = rule.membrane(x_t, v, self._spread(c), values)
            courses[0].append(v)
            courses[1].append(c)
        return stacked(first[0], courses[0]), stacked(first[1], courses[1])

    def _linear_courses(
        self, rule: "_Rule", x: Tensor, v: Tensor, c: Tensor, values: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The same where the recurrences are linear: first the astrocytes' for all time, then the membranes'."""
        course = leaky_sum(values["leak"] * self._mean((values["w_z"] + values["w_x"]) * x), values["leak"], c)
        leak = torch.tensor(1 - rule.decay, dtype=x.dtype, device=x.device)
        return leaky_sum(rule.current(x, self._spread(course), values), leak, v), course

    def _mean(self, of_neurons: Tensor) -> Tensor:
        if self.astrocytes == self.features:
            return of_neurons
        group = self.features // self.astrocytes
        return of_neurons.reshape(*of_neurons.shape[:-1], self.astrocytes, group).mean(-1)

    def _spread(self, of_astrocytes: Tensor) -> Tensor:
        if self.astrocytes == self.features:
            return of_astrocytes
        return of_astrocytes.repeat_interleave(self.features // self.astrocytes, -1)

    def extra_repr(self) -> str:
        return f"{self.features}, astrocytes={self.astrocytes}, linear={self.linear}"


class _Rule(NamedTuple):
    """The equations of one step, on tensors or symbols. z[t-1] is had again from v[t-1], so it is no state."""

    linear: bool
    decay: float
    threshold: float
    surrogate: Surrogate

    def fired(self, v: Any) -> Any:
        return spike(v - self.threshold, self.surrogate)

    def astrocyte(self, x: Any, v: Any, c: Any, values: Mapping[str, Any], mean: Any) -> Any:
        before = x if self.linear else self.fired(v)
        return c + values["leak"] * (mean(values["w_z"] * before + values["w_x"] * x) - c)

    def current(self, x: Any, c: Any, values: Mapping[str, Any]) -> Any:
        return (1 + values["k_g"] * torch.tanh(c)) * x + values["k_h"] * c

    def membrane(self, x: Any, v: Any, c: Any, values: Mapping[str, Any]) -> Any:
        kept = v if self.linear else v - v * self.fired(v)
        return self.decay * kept + self.current(x, c, values)

    def equation(self) -> str:
        """The name of a step of neurons that have an astrocyte each."""

        def step(x: Symbol, p: Symbols, s: Symbols) -> tuple[Symbol, Symbol, Symbol]:
            c = self.astrocyte(x, s["v"], s["c"], p, lambda of_neurons: of_neurons)
            v = self.membrane(x, s["v"], c, p)
            return self.fired(v), v, c

        return equation(("AMSU", *self), ["k_g", "k_h", "w_z", "w_x", "leak"], ["v", "c"], step)
