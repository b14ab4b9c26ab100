"""Kernels on a CUDA GPU, through Triton."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ranvier.compile.build import build_triton
from ranvier.compile.kernel import Variant
from ranvier.compile.program import Program
from ranvier.compile.triton import source
from ranvier.core.checks import MissingPackage, Refusal

BLOCK, WARPS = 512, 4
"""Neurons of one kernel instance, and the warps that share them: measured on an H200."""
FEW, SMALL_BLOCK = 1 << 16, 128
"""Neurons below which smaller instances keep more of the GPU busy."""


@cache
def launcher(program: Program, variant: Variant, backward: bool) -> Callable[[Sequence[Tensor | int], int, int], None]:
    """What runs a kernel over all neurons, given its arguments in their order, the steps and the number of neurons."""
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
    return _Launcher(build_triton(source(program, variant, backward)), variant.steps)


class _Launcher:
    """A Triton kernel, called by way of Triton's own dispatch only the first time in each situation.

    That dispatch looks at every argument anew at each call, which takes longer than many kernels run.
    """

    def __init__(self, kernel: Any, steps: int) -> None:
        self.kernel, self.steps = kernel, steps
        self.compiled: dict[tuple[Any, ...], Any] = {}

    def __call__(self, arguments: Sequence[Tensor | int], steps: int, neurons: int) -> None:
        if not neurons:
            return
        place = next(a for a in arguments if not isinstance(a, int)).device
        if place.type == "cuda" and place.index != torch.cuda.current_device():
            with torch.cuda.device(place):  # Triton launches on the current GPU
                self._launch(arguments, steps, neurons, place)
        else:
            self._launch(arguments, steps, neurons, place)

    def _launch(self, arguments: Sequence[Tensor | int], steps: int, neurons: int, place: torch.device) -> None:
        block = BLOCK if neurons >= FEW else SMALL_BLOCK
        grid, whole = -(-neurons // block), steps % self.steps == 0
        plain = [a if isinstance(a, int) else a.data_ptr() for a in arguments]
        # what Triton specialises on: the sizes themselves are a finer key, and addresses count by their alignment
        key = (place.index, *(p if isinstance(a, int) else p % 16 for p, a in zip(plain, arguments, strict=True)))
        ready = self.compiled.get(key)
        if ready is not None:
            stream = torch._C._cuda_getCurrentRawStream(place.index)
            metadata = ready.packed_metadata
            ready.run(grid, 1, 1, stream, ready.function, metadata, None, None, None, *plain, whole, block)
            return
        found = self.kernel[(grid,)](*arguments, WHOLE=whole, BLOCK=block, num_warps=WARPS, enable_fp_fusion=True)
        if hasattr(found, "packed_metadata"):  # not so under Triton's interpreter
            if len(self.compiled) > 256:
                self.compiled.clear()
            self.compiled[key] = found
