"""Recurrence by its definition, in plain torch: the truth for the kernels, and what any synapse can be in."""

from collections.abc import Callable

from torch import Tensor

Step = Callable[..., tuple[Tensor, ...]]


def hearing_itself(step: Step, synapse: Callable[[Tensor], Tensor], temporal: bool = True) -> Step:
    """A step of neurons whose input has their own last output added, through a synapse.

    Its last state is what they gave out. With `temporal` False no gradient passes to the step before.

    >>> import torch
    >>> count = hearing_itself(lambda x, v: (x + v, v), lambda z: 2 * z)
    >>> [float(t) for t in count(*torch.tensor([1.0, 10.0, 100.0]))]
    [211.0, 10.0, 211.0]
    """

    def recurrent(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        *states, z = values
        z, *states = step(x + synapse(z if temporal else z.detach()), *states)
        return z, *states, z

    return recurrent
