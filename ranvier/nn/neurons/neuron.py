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

from ranvier.compile.program import Program, program
from ranvier.compile.scan import scan, wants_reference
from ranvier.compile.symbol import Symbol
from ranvier.core.checks import Refusal, nearest
from ranvier.core.declarations import Parameter, State, checked, within
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.surrogates import Arctan, Surrogate, spike

Value = float | Tensor


class Neuron(Stateful):
    """A neuron of one's own: declare parameters and states, write `step`.

    `step(self, x, *states)` gives the output of one step and the new states, with ordinary arithmetic and the words
    `self.decay`, `self.spike`, `self.reset`. Inside it a declared parameter is its value, ready to use.

    Parameters are given as numbers or tensors (fixed) or as `nn.Parameter` (learnt), one for all or one per trailing
    feature. Common to all neurons:

    - surrogate: the slope that replaces the spike's derivative
    - reset_mode: "zero" sets the membrane to 0 after a spike, "subtract" lowers it by the threshold
    - detach_reset: True keeps the gradient out of the reset
    - discretisation: decay over a step of dt is 1 - dt/tau ("euler") or exp(-dt/tau) ("exact")
    - dt: the time step, in the unit of tau; with 1, tau counts steps

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
        signature = inspect.signature(Neuron.__init__)
        given = [
            inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=p.default, annotation=Value)
            for k, p in cls.declared.items()
        ]
        common = [p for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
        cls.__signature__ = signature.replace(parameters=[*given, *common])  # type: ignore[attr-defined]
        cls._bound = _twin(cls)
        cls.records = (*(("spikes",) if cls.spiking else ()), *cls.states)

    spiking: ClassVar[bool] = True
    """False for a neuron whose output is its membrane."""

    def __init__(
        self,
        *,
        surrogate: Surrogate = Arctan(),
        reset_mode: Literal["zero", "subtract"] = "zero",
        detach_reset: bool = False,
        discretisation: Literal["euler", "exact"] = "euler",
        dt: float = 1.0,
        **parameters: Value,
    ) -> None:
        super().__init__()
        self.surrogate, self.reset_mode, self.detach_reset = surrogate, reset_mode, detach_reset
        self.discretisation, self.dt = discretisation, dt
        kind = type(self).__name__
        for option, chosen, known in (
            ("reset_mode", reset_mode, ("zero", "subtract")),
            ("discretisation", discretisation, ("euler", "exact")),
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

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_shape(x)
        return {
            k: torch.full(x.shape[1:], s.rest, dtype=state_dtype(x), device=x.device) for k, s in self.states.items()
        }

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if wants_reference():
            return super().begin(x)
        self._refuse_shape(x)
        return self._fused(x, None)

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return reference(self, self.bind(state_dtype(x)).step, x, state) if wants_reference() else self._fused(x, state)

    def _fused(self, x: Tensor, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        names = tuple(self.states)
        y, finals, records = scan(
            self._key(),
            self._program,
            tuple(s.rest for s in self.states.values()),
            x,
            None if state is None else [state[k] for k in names],
            {k: getattr(self, k) for k in self.declared},
            record := tuple(k for k in names if self.wants(k)),
        )
        self.note("spikes", y)
        for name, value in zip(record, records, strict=True):
            self.note(name, value)
        return y, dict(zip(names, finals, strict=True))

    def _key(self) -> Hashable:
        """What the equation depends on besides the values of its parameters."""
        options = tuple((k, v) for k, v in vars(self).items() if not k.startswith("_"))
        return type(self), options, tuple(self._parameters)

    def _program(self, learnt: tuple[str, ...]) -> Program:
        def equation(x: Symbol, p: Mapping[str, Symbol], s: Mapping[str, Symbol]) -> Sequence[Symbol]:
            result: Sequence[Symbol] = self._bound(self, p).step(x, *s.values())
            return result

        return program(equation, tuple(self.declared), tuple(self.states), learnt)

    def bind(self, dtype: torch.dtype) -> "Bound":
        """The neuron with its parameters within bounds and in the state's dtype, ready for `step`."""
        return self._bound(self, {k: getattr(self, k).to(dtype) for k in self.declared})

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
            if len(shape) > x.ndim - 2 or any(
                p not in (1, f) for p, f in zip(reversed(shape), reversed(x.shape), strict=False)
            ):
                raise Refusal(
                    f"{kind}.{name}",
                    expected=f"a shape that broadcasts over the features {tuple(x.shape[2:])} of the input {tuple(x.shape)}",
                    got=str(tuple(shape)),
                    do="Give one number, or one per trailing feature ((C, 1, 1) for one per channel).",
                )


class Bound:
    """What `self` is inside `step`: parameters ready to use, each decay worked out once for the whole sequence.

    Each neuron class has a twin of this class that has the neuron's own methods, so that they see the same values.
    """

    def __init__(self, neuron: Neuron, values: Mapping[str, Tensor] | Mapping[str, Symbol]) -> None:
        self.neuron = neuron
        self.decays: dict[int, tuple[Tensor, Tensor]] = {}
        for name, declaration in neuron.declared.items():
            _, low, high = declaration.scaled(neuron.dt)
            value = values[name]
            setattr(self, name, _held(value, low, high) if name in neuron._parameters else value)

    def decay(self, tau: Tensor) -> Tensor:
        if id(tau) not in self.decays:
            self.decays[id(tau)] = tau, self.neuron.decay(tau)  # tau is kept so that its id stays its own
        return self.decays[id(tau)][1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["neuron"], name)


def _held(value: Tensor | Symbol, low: float, high: float) -> Tensor | Symbol:
    if isinstance(value, Symbol):
        return value.graph.apply("within", value, value=(low, high))
    return within(value, low, high)


def _twin(cls: type[Neuron]) -> type[Bound]:
    kinds = (FunctionType, staticmethod, classmethod, property)
    methods: dict[str, Any] = {}
    for owner in reversed([c for c in cls.__mro__ if issubclass(c, Neuron)]):
        methods.update({k: v for k, v in vars(owner).items() if isinstance(v, kinds) and not k.startswith("__")})
    decay = {} if methods["decay"] is not Neuron.decay else {"decay": Bound.decay}
    return type(f"Bound{cls.__name__}", (Bound,), {**methods, **decay})


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
