"""The shape of what every module of a network puts out, without time and batch axes."""

from contextlib import ExitStack
from typing import Any, Self

from torch import Tensor, nn

from ranvier.core.state import Stateful
from ranvier.nn.fold import Fold


class Shapes:
    """While it is open, notes the output shape of every module at its first call.

    `outputs` maps names, in the order in which the modules first ran, to a shape and what it is of: one "step" or one
    whole "sample"; None for an output that is no tensor.

    >>> import torch, ranvier
    >>> model = nn.Sequential(Fold(nn.Conv2d(1, 8, 3)), nn.Flatten(2))
    >>> with Shapes(model) as shapes:
    ...     _ = model(torch.zeros(5, 2, 1, 6, 6))
    >>> shapes.outputs["0.inner"], shapes.outputs["1"]
    (((8, 4, 4), 'step'), ((128,), 'step'))
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.outputs: dict[str, tuple[tuple[int, ...] | None, str]] = {}
        self._time_and_batch = (0, 0)
        modules = list(model.modules())
        self._folded = {m for fold in modules if isinstance(fold, Fold) for m in fold.inner.modules()}
        self._stepped = {m for s in modules if isinstance(s, Stateful) for m in s.modules() if m is not s}
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        for name, module in self.model.named_modules():
            self._hooks.callback(module.register_forward_pre_hook(self._enter(name)).remove)
            self._hooks.callback(module.register_forward_hook(self._leave(name)).remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not name:
                self._time_and_batch = inputs[0].shape[:2]
            self.outputs.setdefault(name, (None, "step"))

        return hook

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if isinstance(first, Tensor) and self.outputs[name][0] is None:
                self.outputs[name] = self._of_one(module, tuple(first.shape))

        return hook

    def _of_one(self, module: nn.Module, shape: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
        _, batch = self._time_and_batch
        if module in self._folded:
            return shape[1:], "step"
        # an encoder or a stride in time changes T, so B is what tells [T, B, F] from [B, F]
        if shape[1:2] == (batch,) and (len(shape) > 2 or shape == self._time_and_batch):
            return shape[2:], "step"
        if shape[:1] == (batch,):
            return shape[1:], "step" if module in self._stepped else "sample"
        return shape, "sample"
