"""Converted data, kept so that a slow or unsafe format is read once."""

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.files import load, metadata, save

Tensors = dict[str, Tensor]


def cache_folder() -> Path:
    """The folder that RANVIER_CACHE names, else ~/.cache/ranvier."""
    return Path(os.environ.get("RANVIER_CACHE") or "~/.cache/ranvier").expanduser()


def cached(name: str, make: Callable[[], Tensors]) -> Tensors:
    """The tensors kept under `name`; where there are none, or damaged ones, those of `make`, which are then kept.

    A cache that cannot be read or written costs a warning and the time of `make`, never the data.

    >>> import tempfile
    >>> from unittest.mock import patch
    >>> with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, RANVIER_CACHE=folder):
    ...     made = cached("ones", lambda: {"a": torch.ones(2)})
    ...     cached("ones", lambda: {"a": torch.zeros(2)})
    {'a': tensor([1., 1.])}
    """
    path = cache_folder() / f"{name}.safetensors"
    if path.exists():
        try:
            return _read(path)
        except (Refusal, OSError) as why:
            warnings.warn(f"{path} is damaged and made anew: {why}", stacklevel=2)
    tensors = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(tensors, path, {"sha256": _fingerprint(tensors)})
    except (OSError, SafetensorError) as why:  # safetensors reports a full disk as its own error
        warnings.warn(
            f"{path} cannot be written, so each load converts again: {why}. Point RANVIER_CACHE to a folder that can.",
            stacklevel=2,
        )
    return tensors


def _read(path: Path) -> Tensors:
    tensors = load(path)
    expected, got = metadata(path).get("sha256", "none"), _fingerprint(tensors)
    if got != expected:
        raise Refusal(str(path), expected=f"contents with sha256 {expected}", got=got, do="Delete it.")
    return tensors


def _fingerprint(tensors: Tensors) -> str:
    """Of the contents, not of the file, so that it can travel inside the file and one rename is all or nothing."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
