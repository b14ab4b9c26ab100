"""Tensors on disk: safetensors only, written whole or not at all."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ranvier.core.checks import Refusal

_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch.save's zip, and bare ones


def write_text(path: str | Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a half."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN is refused because JSON has none."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def save(tensors: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Save named tensors, a state from `run` or a `state_dict()`, as safetensors.

    The file is written beside its place and moved there, so an interruption leaves the old one intact.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save({"0.v": torch.ones(2)}, f"{folder}/state.safetensors")
    ...     load(f"{folder}/state.safetensors")
    {'0.v': tensor([1., 1.])}
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # clone: safetensors refuses tensors that share memory, as tied weights do
        save_file({k: t.detach().clone().contiguous() for k, t in tensors.items()}, part, metadata=dict(metadata or {}))
        part.chmod(0o644)  # safetensors keeps its files to the user alone, and run folders are shared
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | Path, device: str = "cpu") -> dict[str, Tensor]:
    """Named tensors from a safetensors file.

    Raises: Refusal for any other content. A pickle is refused because unpickling runs code that the file brings along.
    """
    with _read(Path(path)):
        return load_file(path, device=device)


def metadata(path: str | Path) -> dict[str, str]:
    """The text entries saved beside the tensors."""
    with _read(Path(path)), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


@contextmanager
def _read(path: Path) -> Iterator[None]:
    with path.open("rb") as file:
        head = file.read(9)
    # the length that safetensors starts with may have the same bytes, but a brace follows it
    if head[:2] in _PICKLES and head[8:] != b"{":
        raise Refusal(
            str(path),
            expected="safetensors",
            got="a pickle (as torch.save writes), whose loading can run any code",
            do="In a place where you trust the file: ranvier.save(torch.load(path, weights_only=True), 'x.safetensors').",
        )
    try:
        yield
    except SafetensorError as error:
        raise Refusal(
            str(path),
            expected="a whole safetensors file",
            got=f"one that cannot be read ({error})",
            do="Write it again with ranvier.save, or copy it anew.",
        ) from None
