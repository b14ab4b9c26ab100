"""Memory of one forward and backward pass: what is kept in between, and the most there is at once."""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


def kept(function: Callable[[], object]) -> int:
    """Bytes that autograd keeps for the backward pass of what `function` computes; shared memory counts once.

    >>> x = torch.ones(100, requires_grad=True)
    >>> kept(lambda: x.exp()), kept(lambda: x * x)
    (400, 400)
    """
    sizes: dict[int, int] = {}
    alive = []  # a freed block's address could come again

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        function()
    return sum(sizes.values())


def peak(function: Callable[[], object], device: torch.device) -> int | None:
    """Bytes by which memory grows at most while `function` runs; None where the system does not say.

    On a CPU it is the process's resident memory: meaningful in a process of its own that has run nothing large before.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
        function()
        return _status("VmHWM") - before
    except (OSError, ValueError):
        return None


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1]) * 1024
