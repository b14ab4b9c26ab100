"""A neuron against its equation, written by hand in its test: outputs, states and every gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ranvier

F64 = torch.float64


@pytest.fixture
def agrees() -> Callable[..., None]:
    """Compare `neuron(**options)` with `equation(x, *states, p, fire)`, which gives output and states of one step.

    The parameters p are learnt and lie about their defaults, or about what `options` says. `fire(u)` is a step at 0 whose
    gradient is that of the surrogate's primitive.
    """

    def compare(neuron: type[ranvier.Neuron], equation: Callable[..., tuple[Tensor, ...]], **options: Any) -> None:
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, dtype=F64)

        def fire(u: Tensor) -> Tensor:
            soft = ranvier.Arctan().primitive(u)
            return (u >= 0).to(u) + (soft - soft.detach())

        p = {}
        for name, declared in neuron.declared.items():
            about = options.pop(name, declared.default)
            inward = -1 if about == declared.high else 1
            p[name] = nn.Parameter(about + inward * (abs(about) or 1.0) * (0.05 + 0.3 * random(3)))
        x = (4 * random(15, 2, 3) - 1).requires_grad_()
        state = {name: (0.4 * random(2, 3)).requires_grad_() for name in neuron.states}
        leaves = [x, *state.values(), *p.values()]

        with ranvier.backend("reference"):
            y, after = ranvier.run(neuron(**p, **options), x, state)
        outputs, states = [], list(state.values())
        for x_t in x:
            z, *states = equation(x_t, *states, p, fire)
            outputs.append(z)

        weights = [random(*y.shape), *(random(2, 3) for _ in states)]
        sides = []
        for results in ([y, *after.values()], [torch.stack(outputs), *states]):
            loss = sum((w * r).sum() for w, r in zip(weights, results, strict=True))
            sides.append([*results, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)])
        assert len(y.unique()) > 1
        for ours, theirs in zip(*sides, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-11)

    return compare
