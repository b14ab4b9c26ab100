"""What is asked of every unit, with the comparisons that its test file uses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import ranvier


def _close(ours: dict[str, Tensor], theirs: dict[str, Tensor], **tolerance: float) -> bool:
    assert ours.keys() == theirs.keys()
    return all(ours[k].shape == theirs[k].shape and torch.allclose(ours[k], theirs[k], **tolerance) for k in ours)


@pytest.fixture
def close() -> Callable[..., bool]:
    """Whether two dicts of tensors hold the same names, shapes and numbers."""
    return _close


@pytest.fixture
def everything() -> Callable[..., dict[str, Tensor]]:
    """Output, state and records of a run, and the gradients of a fixed sum of them all."""

    def compute(module: nn.Module, x: Tensor, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        x = x.detach().clone().requires_grad_()
        start = {k: v.detach().clone().requires_grad_(v.is_floating_point()) for k, v in (state or {}).items()}
        y, after, recorded = ranvier.run(module, x, start or None, record=module.records)
        results = {
            "y": y,
            **{f"after {k}": v for k, v in after.items()},
            **{f"course {k}": v for k, v in recorded.items()},
        }
        generator = torch.Generator().manual_seed(5)
        loss = 0 * x.sum() + sum(
            (torch.rand(r.shape, generator=generator).to(r) * r).sum()
            for r in results.values()
            if r.is_floating_point()
        )
        leaves = {"x": x, **{k: v for k, v in start.items() if v.requires_grad}, **dict(module.named_parameters())}
        grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        found = results | {f"gradient {k}": g for k, g in zip(leaves, grads, strict=True)}
        return {k: v.detach() for k, v in found.items()}

    return compute


@pytest.fixture
def differentiates() -> Callable[..., bool]:
    """Whether the gradients of x, the state and the parameters are those of finite differences, in float64."""

    def check(module: nn.Module, x: Tensor, state: dict[str, Tensor] | None = None) -> bool:
        module = module.double()
        names, values = list(dict(module.named_parameters())), list(module.parameters())
        state = {} if state is None else state

        class Whole(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
                start = state | dict(zip(state, given, strict=False)) if state else None
                y, after = ranvier.run(self.module, x, start)
                return y, *(v for v in after.values() if v.is_floating_point())

        def function(x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
            parameters = dict(zip((f"module.{n}" for n in names), given[len(state) :], strict=True))
            return functional_call(Whole(), parameters, (x, *given[: len(state)]))

        leaves = [v.detach().double().clone().requires_grad_() for v in (x, *state.values(), *values)]
        return torch.autograd.gradcheck(function, leaves)

    return check


@pytest.fixture
def in_chunks() -> Callable[..., dict[str, Tensor]]:
    """Output and state of a sequence that comes in chunks of these sizes."""

    def run(module: nn.Module, x: Tensor, *sizes: int) -> dict[str, Tensor]:
        state, parts = None, []
        for chunk in x.split(sizes):
            y, state = ranvier.run(module, chunk, state)
            parts.append(y)
        return {"y": torch.cat(parts), **state}

    return run


@pytest.fixture
def same_when_compiled() -> Callable[..., bool]:
    """Whether output, state and the gradient of x come out of an unbroken compiled graph as they do eagerly."""

    def run(module: nn.Module, x: Tensor, state: dict[str, Tensor] | None, backend: str) -> bool:
        torch._dynamo.reset()
        found = []
        compiled = torch.compile(lambda x: ranvier.run(module, x, state), fullgraph=True, backend=backend)
        for function in (lambda x: ranvier.run(module, x, state), compiled):
            leaf = x.clone().requires_grad_()
            y, after = function(leaf)
            (gradient,) = torch.autograd.grad(y.square().sum(), leaf)
            found.append({"y": y.detach(), **{k: v.detach() for k, v in after.items()}, "gradient": gradient})
        return _close(*found, rtol=1e-10, atol=1e-12)

    return run
