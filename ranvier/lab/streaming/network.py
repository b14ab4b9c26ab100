"""A saved run's network on the event-driven engine."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from ranvier.core.running import run
from ranvier.deploy.engine.program import Program, compile
from ranvier.models.recordings import Bins, Standardise
from ranvier.nn.coding.rate import RateDecoder


class Network:
    """The program of a model, with what stays torch's before it (`front`) and behind it (the decoder).

    Raises: Refusal for a layer that the engine doesn't know.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int]) -> None:
        layers = list(model.children()) if type(model) is nn.Sequential else [model]
        cut = 0
        while cut < len(layers) and isinstance(layers[cut], (Standardise, Bins)):
            cut += 1
        if cut == 1 and isinstance(layers[0], Standardise) and not layers[0].mean.any():
            cut = 0  # silence stays silent: the engine does it
        self.front = nn.Sequential(*layers[:cut]).eval() if cut else None
        self.pool = prod([m.size for m in layers[:cut] if isinstance(m, Bins)])
        """How many frames become one."""
        if self.front is not None:
            with torch.no_grad():
                shape = run(self.front, torch.zeros(self.pool, 1, *shape))[0].shape[2:]
            model = nn.Sequential(*layers[cut:])
        self.program: Program = compile(model, shape)
        self.tail = self.program.tail if self.program.tail is not None else RateDecoder()
        self.static = self.program.head is not None
        """Whether each frame is a picture that is presented for some steps."""

    @torch.no_grad()
    def prepared(self, x: Tensor) -> Tensor:
        """Frames [T, *shape], a multiple of `pool`, as the program takes them, [T', features]."""
        x = x.unsqueeze(1)
        for part in (self.front, self.program.head):
            if part is not None:
                x = run(part, x)[0]
        return x.reshape(len(x), -1)

    @torch.no_grad()
    def read(self, outputs: Tensor, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Probabilities [classes] after further outputs [T, features] of the program, and the decoder's state."""
        y, state = run(self.tail, outputs.reshape(len(outputs), 1, *self.program.out_shape), state)
        return y.flatten().float().softmax(0), state
