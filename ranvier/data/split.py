"""Cutting labelled recordings into what is learnt from and what is judged on."""

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.samples import Samples


def stratified(samples: Samples, share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the training and the test samples: of each class about `share` is tested, drawn from `seed`.

    All samples of a group are on one side, and each side has a group or more of each class.

    Raises: Refusal for a class of fewer than two groups.

    >>> a = Samples(x=[np.zeros((1, 1))] * 6, y=np.array([0, 0, 1, 1, 1, 1]), classes=("a", "b"))
    >>> [part.tolist() for part in stratified(a)]
    [[1, 2, 3, 5], [0, 4]]
    """
    generator = np.random.default_rng(seed)
    tested = np.zeros(len(samples), dtype=bool)
    for number, name in enumerate(samples.classes):
        mine = np.unique(samples.group[samples.y == number])
        if len(mine) < 2:
            got = f"{len(mine)} of {name!r}"
            raise Refusal("split", expected="two recordings or more of each class", got=got, do="Record more.")
        count = min(max(1, round(share * len(mine))), len(mine) - 1)
        tested |= np.isin(samples.group, generator.permutation(mine)[:count])
    return np.flatnonzero(~tested), np.flatnonzero(tested)
