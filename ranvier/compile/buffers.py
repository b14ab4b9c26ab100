"""CPU memory for kernels' outputs, used again once nothing refers to it.

A fresh page costs a CPU as much as the arithmetic done on it, and a training loop asks for the same sizes again and again.
Only blocks of a mebibyte and more are kept, and what has not been used lately is given back. Sizes are rounded up, by an eighth at
most, so that batches of ever other lengths share their blocks.
"""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, UntypedStorage

_SMALLEST = 1 << 20
_LATELY = 512
"""Requests after which a block that nobody wanted is given back."""


@dataclass(eq=False, slots=True)
class _Block:
    storage: UntypedStorage
    last: int
    """the request that it was last given for"""

    def free(self, size: int) -> bool:
        # one that was resized, or sent to another process that may still read it, is never free
        return _users(self) == _ALONE and self.storage.nbytes() == size and not self.storage.is_shared()


_lock = threading.Lock()
_kept: dict[int, list[_Block]] = {}
_requests = 0


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised contiguous CPU tensor, in recycled memory where there is some."""
    global _requests
    size = prod(shape) * dtype.itemsize
    if size < _SMALLEST:
        return torch.empty(shape, dtype=dtype)
    step = 1 << (size.bit_length() - 4)
    size = -(-size // step) * step
    with _lock:
        _requests += 1
        if _requests % _LATELY == 0:
            _give_back()
        blocks = _kept.setdefault(size, [])
        block = next((b for b in blocks if b.free(size)), None)
        if block is None:
            blocks.append(block := _Block(UntypedStorage(size), 0))  # type: ignore[no-untyped-call]
        block.last = _requests
        # taken before the lock is left, so that no other thread finds it free
        return torch.empty(0, dtype=dtype).set_(block.storage, 0, tuple(shape))  # type: ignore[call-overload,no-any-return]


def _give_back() -> None:
    for size, blocks in list(_kept.items()):
        blocks[:] = [b for b in blocks if _requests - b.last < _LATELY]
        if not blocks:
            del _kept[size]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)


def _users(block: _Block) -> tuple[int, int]:
    """How many refer to a block's memory: tensors of any kind, and Python names of the storage itself."""
    return torch._C._storage_Use_Count(block.storage._cdata), sys.getrefcount(block.storage)


_ALONE = _users(_Block(UntypedStorage(1), 0))  # type: ignore[no-untyped-call]
"""What counts for a storage that nothing but its block refers to."""
