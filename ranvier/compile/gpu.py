"""Kernels on a CUDA GPU, through Triton."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.build import build_triton
from ranvier.compile.kernel import Variant, arguments, segment
from ranvier.compile.program import Program
from ranvier.compile.triton import source
from ranvier.core.checks import MissingPackage, Refusal

BLOCK, WARPS = 256, 4
"""Neurons of one kernel instance, and the warps that share them."""


def launch(program: Program, variant: Variant, backward: bool, given: Mapping[str, Tensor | int]) -> None:
    """Run a kernel over all neurons; `given` has every argument by name."""
    kernel, names = _built(program, variant, backward)
    neurons, steps = given["M"], given["T"]
    assert isinstance(neurons, int) and isinstance(steps, int)
    if neurons:
        whole = steps % segment(program) == 0
        kernel[(-(-neurons // BLOCK),)](*(given[name] for name in names), WHOLE=whole, BLOCK=BLOCK, num_warps=WARPS)


@cache
def _built(program: Program, variant: Variant, backward: bool) -> tuple[Any, Sequence[str]]:
    try:
        import triton  # noqa: F401
    except ImportError:
        raise MissingPackage("triton", "triton>=3.6") from None
    if torch.cuda.is_available() and (capability := torch.cuda.get_device_capability()) < (7, 0):
        raise Refusal(
            "fused neurons",
            expected="a GPU of compute capability 7.0 or newer, which Triton needs",
            got=f"{torch.cuda.get_device_name()} of {capability[0]}.{capability[1]}",
            do="Choose ranvier.backend('reference').",
        )
    return build_triton(source(program, variant, backward)), arguments(program, variant, backward)
