"""Small equations run as kernels: on the CPU, on a GPU where there is one, in Triton's interpreter where that is chosen."""

import os

import pytest
import torch

import ranvier

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() and not INTERPRETED else [])])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def computed():
    """A function of one-dimensional tensors, computed by a kernel: the first is its input, the others its parameters."""

    def compute(function, x, *others):
        names = [f"p{i}" for i in range(len(others))]

        def step(self, x):
            return (function(x, *(getattr(self, name) for name in names)),)

        parameters = {name: ranvier.Parameter(0.0) for name in names}
        layer = type("Computed", (ranvier.Neuron,), {"step": step, "spiking": False, **parameters})()
        for name, value in zip(names, others, strict=True):
            layer._buffers[name] = value  # past the check that it is finite
        return layer(x[None, None])[0, 0]

    return compute
