"""Checkpoints: nested values with tensors as one safetensors file, written whole or not at all, the last two kept."""

import json
import logging
import math
import os
import random
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.files import load, metadata

_FORMAT = "ranvier checkpoint 1"
_WANTED = "tensors, numbers, strings, bools, None, and dicts, lists and tuples of them"


def write(value: object, path: Path, keep: bool = False) -> None:
    """Write a nested value so that `path` holds the old content or the new, whatever happens meanwhile.

    With `keep`, the old content stays beside it, for `read` to fall back on.

    Raises: Refusal for anything but tensors, numbers, strings, bools, None, and dicts, lists and tuples of them, by
    name; and when there is no room, with the old content as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write({"step": 3, "betas": (0.9, 0.99), 0: torch.ones(2)}, Path(folder, "a.safetensors"))
    ...     read(Path(folder, "a.safetensors"))
    {'step': 3, 'betas': (0.9, 0.99), 0: tensor([1., 1.])}
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(value, "checkpoint", tensors), allow_nan=False)
    sums = json.dumps({name: _sum(t) for name, t in tensors.items()})
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        save_file(tensors, part, metadata={"format": _FORMAT, "structure": structure, "crc32": sums})
        part.chmod(0o644)  # safetensors keeps its files to the user alone, and run folders are shared
        _sync(part)
        if keep and path.exists():
            os.replace(path, before(path))
        os.replace(part, path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise Refusal(
            str(path),
            expected="room for a checkpoint",
            got=str(error),
            do="Free some disk and go on with --resume; what was written before is as it was.",
        ) from None
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> Any:
    """The value that `write` wrote; where that is damaged, the one before it, which is said.

    Raises: Refusal when neither is whole.
    """
    errors = []
    for place in (path, before(path)):
        try:
            value = _decoded(place)
        except FileNotFoundError:
            continue
        except Refusal as error:
            errors.append(str(error))
            continue
        if place != path:
            logging.getLogger("ranvier").warning(
                "%s; using the checkpoint before it, %s", errors[0] if errors else f"{path} is missing", place
            )
        return value
    raise Refusal(
        str(path),
        expected="a whole checkpoint, or one before it",
        got=" ".join(errors) or "none",
        do="Delete it to train this network from its start.",
    )


def exists(path: Path) -> bool:
    """Whether there is something for `read` at `path`."""
    return path.exists() or before(path).exists()


def remove(path: Path) -> None:
    """Delete what `write` wrote at `path`."""
    for place in (path, before(path)):
        place.unlink(missing_ok=True)


def before(path: Path) -> Path:
    """Where the last checkpoint but one lies."""
    return path.with_name(f"{path.stem}.before{path.suffix}")


def seed_all(key: int) -> None:
    """Start every random generator of this process from `key`."""
    torch.manual_seed(key)
    random.seed(key)
    np.random.seed(key % 2**32)


def random_states() -> dict[str, Any]:
    """The states of torch's, numpy's and Python's generators, for `write`."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *(float(r) for r in rest)],
        "python": [version, torch.tensor(words), gauss],
    }


def restore_random(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` gave."""
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), gauss))
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))


def _encode(value: object, place: str, tensors: dict[str, Tensor]) -> object:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if isinstance(value, float) and kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Tensor) and value.layout is torch.strided:
        # clone: safetensors refuses tensors that share memory, as tied weights do
        tensors[place] = value.detach().clone().contiguous().cpu()
        return {"tensor": place}
    if isinstance(value, list) and kind is list:
        return _many(value, place, tensors)
    if isinstance(value, tuple) and kind is tuple:
        return {"tuple": _many(value, place, tensors)}
    if isinstance(value, dict) and kind in (dict, OrderedDict):
        pairs = [
            [_encode(k, f"{place} key", tensors), _encode(v, f"{place}[{k!r}]", tensors)] for k, v in value.items()
        ]
        if kind is dict:
            return {"dict": pairs}
        # a module's state_dict carries the versions of its layers so
        return {"ordered": pairs, "versions": _encode(getattr(value, "_metadata", None), f"{place} versions", tensors)}
    raise Refusal(
        place,
        expected=_WANTED,
        got=f"{kind.__module__}.{kind.__qualname__}",
        do="Keep it as one of these in the state_dict that it comes from.",
    )


def _many(values: Sequence[object], place: str, tensors: dict[str, Tensor]) -> list[object]:
    return [_encode(v, f"{place}[{i}]", tensors) for i, v in enumerate(values)]


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "float" in value:
        return float(value["float"])
    if "tuple" in value:
        return tuple(_decode(v, tensors) for v in value["tuple"])
    pairs = value["dict"] if "dict" in value else value["ordered"]
    decoded = [(_decode(k, tensors), _decode(v, tensors)) for k, v in pairs]
    if "dict" in value:
        return dict(decoded)
    made: Any = OrderedDict(decoded)
    if value["versions"] is not None:
        made._metadata = _decode(value["versions"], tensors)
    return made


def _decoded(path: Path) -> Any:
    facts = metadata(path)
    if facts.get("format") != _FORMAT:
        raise Refusal(
            str(path), expected="a checkpoint", got="another safetensors file", do="Give the file that a run wrote."
        )
    sums = json.loads(facts["crc32"])
    # clone: what is loaded lies in the file, which may go
    tensors = {name: t.clone() for name, t in load(path).items()}
    for name, tensor in tensors.items():
        if _sum(tensor) != sums[name]:
            raise Refusal(str(path), expected="a whole checkpoint", got=f"a damaged {name}", do="Use the one before.")
    return _decode(json.loads(facts["structure"]), tensors)


def _sum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
