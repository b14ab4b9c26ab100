"""How many CPU threads train a recipe's network fastest, by trying."""

import os
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ranvier.lab.recipe import Recipe

_STEPS = 3


def fastest(recipe: Recipe) -> tuple[int, dict[int, float]]:
    """One thread or one a core, whichever trains the recipe's network faster, and the seconds of a step with each.

    A step is forward and backward of one batch, drawn as in training; the median of three after one to warm up. The
    random state and the number of threads are as before when this returns.
    """
    cores = len(os.sched_getaffinity(0))
    before, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        train = recipe.data(0).train
        size = min(getattr(recipe.fit, "batch", 64), len(train))
        draw = getattr(recipe.fit, "draw", None)
        index = np.arange(size)
        generator = torch.Generator().manual_seed(0)
        batch = train.batch(index) if draw is None else draw(train, index, generator)
        model = recipe.model()
        seconds = {}
        for threads in dict.fromkeys((1, cores)):
            torch.set_num_threads(threads)
            times = []
            for _ in range(_STEPS + 1):
                started = perf_counter()
                model.zero_grad()
                torch.autograd.backward(cross_entropy(model(batch.x), batch.y))
                times.append(perf_counter() - started)
            seconds[threads] = median(times[1:])
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
    return min(seconds, key=lambda threads: seconds[threads]), seconds
