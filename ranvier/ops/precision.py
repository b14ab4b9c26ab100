"""In which dtype an operation gives out what it computed in float32 or wider."""

import torch
from torch import Tensor


def output_dtype(x: Tensor) -> torch.dtype:
    """That of x, or autocast's inside one; float64 stays.

    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     output_dtype(torch.zeros(1)), output_dtype(torch.zeros(1, dtype=torch.float64))
    (torch.bfloat16, torch.float64)
    """
    kind = x.device.type
    if x.dtype != torch.float64 and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype
