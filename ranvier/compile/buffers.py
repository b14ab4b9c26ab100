"""CPU memory for kernels' outputs, used again once nothing refers to it.

A fresh page costs a CPU as much as the arithmetic done on it, and a training loop asks for the same sizes again and again.
Only blocks of a mebibyte and more are kept; a size that has not been asked for lately is given back.
"""

import os
import threading
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, UntypedStorage

_SMALLEST = 1 << 20
_LATELY = 512
_lock = threading.Lock()
_kept: dict[int, list[UntypedStorage]] = {}
_asked: dict[int, int] = {}
_requests = 0


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised contiguous CPU tensor, in recycled memory where there is some."""
    global _requests
    size = prod(shape) * dtype.itemsize
    if size < _SMALLEST:
        return torch.empty(shape, dtype=dtype)
    with _lock:
        _requests += 1
        _asked[size] = _requests
        for old in [s for s, when in _asked.items() if _requests - when > _LATELY]:
            del _asked[old], _kept[old]
        blocks = _kept.setdefault(size, [])
        storage = next((s for s in blocks if _users(s) == _ALONE), None)
        if storage is not None and (storage.nbytes() != size or storage.is_shared()):
            # resized, or sent to another process, which may still read it
            blocks[:] = [s for s in blocks if s.nbytes() == size and not s.is_shared()]
            storage = next((s for s in blocks if _users(s) == _ALONE), None)
        if storage is None:
            storage = UntypedStorage(size)  # type: ignore[no-untyped-call]
            blocks.append(storage)
        # taken before the lock is left, so that no other thread finds it free
        return torch.empty(0, dtype=dtype).set_(storage, 0, tuple(shape))  # type: ignore[call-overload,no-any-return]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)


def _users(storage: UntypedStorage) -> int:
    count: int = torch._C._storage_Use_Count(storage._cdata)
    return count


_ALONE = _users(UntypedStorage(1))  # type: ignore[no-untyped-call]
"""What a storage counts that nothing but one Python name refers to."""
