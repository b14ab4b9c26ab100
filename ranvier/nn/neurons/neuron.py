"""The base of every neuron: its equation written once as `step`, and what is derived from it."""

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from numbers import Real
from types import FunctionType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ranvier.compile.plan import Equation, known_as
from ranvier.compile.program import Program, program
from ranvier.compile.scan import scan, wants_reference
from ranvier.compile.symbol import Symbol, SymbolDraws
from ranvier.core.checks import Refusal, nearest
from ranvier.core.declarations import Parameter, State, checked, within
from ranvier.core.random import Draws, fresh_seeds
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.surrogates import Arctan, Surrogate, spike, straight_through

Value = float | Tensor


class Neuron(Stateful):
    """A neuron of one's own: declare parameters and states, write `step`.

    `step(self, x, *states)` gives the output of one step and the new states, with ordinary arithmetic and the words
    `self.decay`, `self.spike`, `self.reset`. Inside it a declared parameter is its value, ready to use.

    Parameters are given as numbers or tensors (fixed) or as `nn.Parameter` (learnt), one for all, one per trailing
    feature, or one per sample with the batch as the first axis. Common to all neurons:

    - surrogate: the slope that replaces the spike's derivative
    - reset_mode: "zero" sets the membrane to 0 after a spike, "subtract" lowers it by the threshold
    - detach_reset: True keeps the gradient out of the reset
    - discretisation: decay over a step of dt is 1 - dt/tau ("euler") or exp(-dt/tau) ("exact")
    - dt: the time step, in the unit of tau; with 1, tau counts steps
    - temporal_grad: "none" cuts the gradient from step to step; "full" is backpropagation through time

    A class with `random = True` may also use `self.uniform()`, `self.normal()` and `self.bernoulli(p)`: its state then
    holds a seed for each sample and the step, and what is drawn depends on them and the neuron's place alone.

    Order of one step: decay and input, threshold test (v >= threshold), reset.

    >>> import torch
    >>> class Perfect(Neuron):
    ...     threshold = Parameter(1.0)
    ...     v = State()
    ...     def step(self, x, v):
    ...         v = v + x
    ...         z = self.spike(v - self.threshold)
    ...         return z, self.reset(v, z)
    >>> Perfect(reset_mode="subtract")(torch.full((4, 1, 1), 0.5)).flatten()
    tensor([0., 1., 0., 1.])
    """

    declared: ClassVar[dict[str, Parameter]] = {}
    states: ClassVar[dict[str, State]] = {}
    _bound: ClassVar[type["Bound"]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = dict(vars(cls))
        cls.declared = {**cls.declared, **{k: v for k, v in own.items() if isinstance(v, Parameter)}}
        cls.states = {**cls.states, **{k: v for k, v in own.items() if isinstance(v, State)}}
        for name in (*cls.declared, *cls.states):
            if name in own:
                delattr(cls, name)  # an instance's own value must be found, not the declaration
        keyword = inspect.Parameter.KEYWORD_ONLY
        given = {k: inspect.Parameter(k, keyword, default=p.default, annotation=Value) for k, p in cls.declared.items()}
        for init in (cls.__init__, Neuron.__init__):  # options of its own, then those of all neurons
            given |= {
                k: p for k, p in inspect.signature(init).parameters.items() if p.kind is keyword and k not in given
            }
        cls.__signature__ = inspect.Signature(list(given.values()))  # type: ignore[attr-defined]
        cls._bound = _twin(cls)
        cls.records = (*(("spikes",) if cls.spiking else ()), *cls.states)

    spiking: ClassVar[bool] = True
    """False for a neuron whose output is its membrane."""
    random: ClassVar[bool] = False
    """True for a neuron whose step draws random numbers."""

    def __init__(
        self,
        *,
        surrogate: Surrogate = Arctan(),
        reset_mode: Literal["zero", "subtract"] = "zero",
        detach_reset: bool = False,
        discretisation: Literal["euler", "exact"] = "euler",
        dt: float = 1.0,
        temporal_grad: Literal["full", "none"] = "full",
        **parameters: Value,
    ) -> None:
        super().__init__()
        self.surrogate, self.reset_mode, self.detach_reset = surrogate, reset_mode, detach_reset
        self.discretisation, self.dt, self.temporal_grad = discretisation, dt, temporal_grad
        kind = type(self).__name__
        for option, chosen, known in (
            ("reset_mode", reset_mode, ("zero", "subtract")),
            ("discretisation", discretisation, ("euler", "exact")),
            ("temporal_grad", temporal_grad, ("full", "none")),
        ):
            if chosen not in known:
                raise Refusal(
                    f"{kind}.{option}",
                    expected=" or ".join(map(repr, known)),
                    got=repr(chosen),
                    do=nearest(str(chosen), known),
                )
        if not 0 < dt < math.inf:
            raise Refusal(
                f"{kind}.dt", expected="a positive number", got=repr(dt), do="Give the time step in the unit of tau."
            )
        for name in parameters:
            if name not in self.declared:
                options = set(inspect.signature(type(self)).parameters)
                raise Refusal(kind, expected="a parameter that it declares", got=repr(name), do=nearest(name, options))
        for name, declaration in self.declared.items():
            default, low, high = declaration.scaled(dt)
            value = parameters.get(name, default)
            if not isinstance(value, Real | Tensor):
                raise Refusal(
                    f"{kind}.{name}",
                    expected="a number, a tensor or an nn.Parameter",
                    got=repr(value),
                    do=f"For one per feature write {name}=torch.tensor([...]).",
                )
            tensor = checked(kind, name, value if isinstance(value, Tensor) else torch.tensor(float(value)), low, high)
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, tensor.detach().clone())
        self._equation: str
        self._name_equation()

    @abstractmethod
    def step(self, x: Any, *states: Any) -> tuple[Any, ...]:
        """One step: input and states in; output and new states out."""

    def decay(self, tau: Tensor) -> Tensor:
        """The factor by which a quantity of time constant tau decays over one step."""
        return torch.exp(-self.dt / tau) if self.discretisation == "exact" else 1 - self.dt / tau

    def spike(self, u: Tensor) -> Tensor:
        """1 where u >= 0, with the surrogate's slope for the backward pass."""
        return spike(u, self.surrogate)

    def reset(self, v: Tensor, z: Tensor, threshold: Tensor | None = None) -> Tensor:
        """The membrane after the spikes z, by `reset_mode`; `threshold` where it is not self.threshold."""
        if self.detach_reset:
            z = z.detach()
        if self.reset_mode == "zero":
            return v - v * z
        step: Tensor = self.threshold if threshold is None else threshold  # type: ignore[assignment]
        return v - z * step

    def floor(self, u: Tensor) -> Tensor:
        """The largest integer that is not above u; the gradient passes straight through."""
        return straight_through("floor", u)

    def round(self, u: Tensor) -> Tensor:
        """The nearest integer, the even one at a tie; the gradient passes straight through."""
        return straight_through("round", u)

    def uniform(self) -> Tensor:
        """Inside the step of a `random` neuron: a number in [0, 1) for every neuron."""
        raise self._not_random()

    def normal(self) -> Tensor:
        """Inside the step of a `random` neuron: a standard normal number for every neuron."""
        raise self._not_random()

    def bernoulli(self, p: Tensor) -> Tensor:
        """Inside the step of a `random` neuron: 1 with probability p, else 0; the gradient passes as that of p."""
        return torch.where(self.uniform() < p, 1.0, 0.0).detach() + (p - p.detach())

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_shape(x)
        dtype = state_dtype(x)
        states = {k: torch.full(x.shape[1:], s.rest, dtype=dtype, device=x.device) for k, s in self.states.items()}
        return states | (self._seeds(x) if self.random else {})

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if wants_reference():
            return super().begin(x)
        self._refuse_shape(x)
        return self._fused(x, None, self._seeds(x) if self.random else {})

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if not wants_reference():
            return self._fused(x, [state[k] for k in self.states], state)
        bound = self.bind(state_dtype(x))
        if self.random:
            bound.draws = Draws(state["seed"], state["step"], x.shape[2:])
        y, after = reference(self, bound.advance_one_step, x, {k: state[k] for k in self.states})
        return y, after | self.later(x, state)

    def _fused(
        self, x: Tensor, initial: Sequence[Tensor] | None, seeds: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        record = tuple([k for k in self.states if self.wants(k)])
        draws = (seeds["seed"], seeds["step"]) if self.random else None
        y, finals, records = scan(self._equation, x, self._values(), initial, record, draws)
        self.note("spikes", y)
        for name, value in zip(record, records, strict=True):
            self.note(name, value)
        return y, dict(zip(self.states, finals, strict=True)) | self.later(x, seeds)

    def _seeds(self, x: Tensor) -> dict[str, Tensor]:
        step = torch.zeros(x.shape[1], dtype=torch.int64, device=x.device)
        return {"seed": fresh_seeds(x.shape[1], x.device), "step": step}

    def later(self, x: Tensor, seeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The seeds and the step after all steps of x, for a neuron that has them."""
        return {"seed": seeds["seed"], "step": seeds["step"] + len(x)} if self.random else {}

    def _not_random(self) -> Refusal:
        return Refusal(
            type(self).__name__,
            expected="a class with random = True, inside its step",
            got="a draw of a random number",
            do="Write random = True beside its Parameters, so that its state holds the seeds.",
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if not name.startswith("_") and "_equation" in self.__dict__:
            self._name_equation()  # an option may have changed

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._name_equation()  # equations are known by other names in another process

    def _name_equation(self) -> None:
        """Find the name of what this neuron computes, apart from its parameters' values, among all that compute the same."""
        options = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        for name, value in options.items():
            if not isinstance(value, Hashable):  # equal neurons share their kernels
                raise Refusal(
                    f"{type(self).__name__}.{name}",
                    expected="an option that can be compared and never changes, as a number, a string or a tuple",
                    got=type(value).__name__,
                    do="Write a tuple for a list; a tensor belongs in a Parameter; begin the name with _ if step does not use it.",
                )

        def make() -> Equation:
            alike = object.__new__(type(self))  # without the parameters, so that they can be freed
            alike.__dict__.update({**self.__dict__, "_parameters": {}, "_buffers": {}})
            rest = tuple(s.rest for s in self.states.values())
            return Equation(tuple(self.declared), tuple(self.states), rest, alike._program)

        self.__dict__["_equation"] = known_as((type(self), *sorted(options.items())), type(self).__name__, make)

    def _program(self, learnt: tuple[str, ...]) -> Program:
        def equation(
            x: Symbol, p: Mapping[str, Symbol], s: Mapping[str, Symbol], draws: SymbolDraws
        ) -> Sequence[Symbol]:
            bound = self._bound(self, p)
            if self.random:
                bound.draws = draws
            result: Sequence[Symbol] = bound.step(x, *s.values())
            return result

        return program(equation, tuple(self.declared), tuple(self.states), learnt, self.temporal_grad == "full")

    def bind(self, dtype: torch.dtype) -> "Bound":
        """The neuron with its parameters within bounds and in the state's dtype, ready for `step`."""
        values = zip(self.declared, self._values(), strict=True)
        return self._bound(self, {k: value.to(dtype) for k, value in values})

    def _values(self) -> list[Tensor]:
        # a parameter is held within its bounds here, not in a kernel: whether its gradient leads further out is
        # decided by the sum over all neurons that share it
        values = []
        for name, declaration in self.declared.items():
            value = self._parameters.get(name)
            if value is None:
                values.append(self._buffers[name])
            else:
                _, low, high = declaration.scaled(self.dt)
                values.append(within(value, low, high))
        return values  # type: ignore[return-value]

    def extra_repr(self) -> str:
        values = {k: getattr(self, k) for k in self.declared}
        shown = (f"{k}={v.item():g}" if v.ndim == 0 else f"{k}={tuple(v.shape)}" for k, v in values.items())
        learnt = [k for k in self.declared if k in self._parameters]
        return ", ".join(
            [
                *shown,
                *([f"reset_mode={self.reset_mode!r}"] if self.spiking else []),
                *([f"learnt={learnt}"] if learnt else []),
            ]
        )

    def _refuse_shape(self, x: Tensor) -> None:
        kind = type(self).__name__
        if x.ndim < 3:
            raise Refusal(
                kind,
                expected="[T, B, ...features], time first",
                got=f"shape {tuple(x.shape)}",
                do="Add the missing axis: x.unsqueeze(0) for a single step, which ranvier.Direct(steps) repeats.",
            )
        if not x.is_floating_point():
            raise Refusal(kind, expected="floating-point input", got=str(x.dtype), do="Convert it with x.float().")
        for name in self.declared:
            shape = getattr(self, name).shape
            if len(shape) > x.ndim - 1 or any(
                p not in (1, f) for p, f in zip(reversed(shape), reversed(x.shape), strict=False)
            ):
                raise Refusal(
                    f"{kind}.{name}",
                    expected=f"a shape that broadcasts over {tuple(x.shape[1:])}, batch and features of the input {tuple(x.shape)}",
                    got=str(tuple(shape)),
                    do="Give one number, one per trailing feature ((C, 1, 1) for one per channel), or one per sample ((B, 1)).",
                )


class Bound:
    """What `self` is inside `step`: parameters ready to use, each decay worked out once for the whole sequence.

    Each neuron class has a twin of this class that has the neuron's own methods, so that they see the same values.
    """

    def __init__(self, neuron: Neuron, values: Mapping[str, Tensor] | Mapping[str, Symbol]) -> None:
        self.neuron = neuron
        self.decays: dict[int, tuple[Tensor, Tensor]] = {}
        self.draws: Draws | SymbolDraws | None = None
        for name in neuron.declared:
            setattr(self, name, values[name])

    def decay(self, tau: Tensor) -> Tensor:
        if id(tau) not in self.decays:
            self.decays[id(tau)] = tau, self.neuron.decay(tau)  # tau is kept so that its id stays its own
        return self.decays[id(tau)][1]

    def uniform(self) -> Tensor | Symbol:
        if self.draws is None:
            raise self.neuron._not_random()
        return self.draws.uniform()

    def normal(self) -> Tensor | Symbol:
        if self.draws is None:
            raise self.neuron._not_random()
        return self.draws.normal()

    def advance_one_step(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """`step`, with what the loop around it has to do for `temporal_grad` and random numbers."""
        if self.neuron.temporal_grad == "none":
            states = tuple(s.detach() for s in states)
        result: tuple[Tensor, ...] = self.step(x, *states)
        if isinstance(self.draws, Draws):
            self.draws.next_step()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["neuron"], name)


def _twin(cls: type[Neuron]) -> type[Bound]:
    kinds = (FunctionType, staticmethod, classmethod, property)
    methods: dict[str, Any] = {}
    for owner in reversed([c for c in cls.__mro__ if issubclass(c, Neuron)]):
        methods.update({k: v for k, v in vars(owner).items() if isinstance(v, kinds) and not k.startswith("__")})
    bound = {k: vars(Bound)[k] for k in ("decay", "uniform", "normal") if methods[k] is vars(Neuron)[k]}
    return type(f"Bound{cls.__name__}", (Bound,), {**methods, **bound})


def reference(
    module: Stateful, step: Callable[..., tuple[Tensor, ...]], x: Tensor, state: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The reference: `step` over every time step of x, recording what the run asks for."""
    names, values = list(state), list(state.values())
    outputs: list[Tensor] = []
    history: dict[str, list[Tensor]] = {name: [] for name in names if module.wants(name)}
    for x_t in x.to(state_dtype(x)).unbind(0):
        z, *values = step(x_t, *values)
        outputs.append(z)
        for name, value in zip(names, values, strict=True):
            if name in history:
                history[name].append(value)
    y = torch.stack(outputs).to(x.dtype) if outputs else torch.zeros_like(x)
    for name, past in history.items():
        module.note(name, torch.stack(past) if past else torch.zeros_like(x, dtype=state_dtype(x)))
    module.note("spikes", y)
    return y, dict(zip(names, values, strict=True))
