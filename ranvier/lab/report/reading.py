"""What a run left in its folder, checked before anything is drawn from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranvier.core.checks import Refusal

_NUMBER = (int, float)
_OPERATIONS = {"kind": str, "values": str, "dense": _NUMBER, "effective": _NUMBER}
_LAYER = {
    **{"name": str, "kind": str, "per": str, "parameters": int, "shape?": [int]},
    **{"rate?": _NUMBER, "silent?": _NUMBER, "operations?": _OPERATIONS},
}
_SHAPE = {
    "recipe": str,
    **dict.fromkeys(("summary?", "source?", "command?", "status?", "error?", "precision?", "commit?"), str),
    **dict.fromkeys(("started?", "finished?"), str),
    **dict.fromkeys(("seed?", "counted samples?"), int),
    **{key: {"*?": object} for key in ("settings?", "hardware?", "versions?")},
    **{key: {"*": _NUMBER} for key in ("seconds?", "metrics?")},
    "claims?": [{"claim": str, "origin": str, "measured?": _NUMBER, "held?": bool}],
    "curves?": [{"epoch": _NUMBER, "*?": _NUMBER}],
    "classes?": [str],
    "confusion?": [[int]],
    "layers?": [_LAYER],
    "not counted?": [dict.fromkeys(("name", "kind", "why"), str)],
    "examples?": [{"true?": str, "predicted?": str, "steps?": int}],
}
"""A type, types, [of each], or {key: of its value}: "key?" may be missing or null, "*" is any other key."""


def read(folder: Path) -> dict[str, Any]:
    """The facts in the folder's run.json.

    Raises: Refusal naming the file and the first thing in it that is missing or of another kind.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise Refusal(str(folder), expected="a run's folder with run.json", got="none", do="Give the folder of a run.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _malformed(path, "JSON", f"text that is none ({error})") from None
    _check(path, "", facts, _SHAPE)
    classes, confusion = facts.get("classes") or [], facts.get("confusion") or []
    if confusion and {len(confusion), *map(len, confusion)} != {len(classes)}:
        got = f"{len(confusion)} rows of {sorted(set(map(len, confusion)))} columns"
        raise _malformed(path, f"confusion of {len(classes)} x {len(classes)}, one for each class", got)
    return {key: value for key, value in facts.items() if value is not None}


def _check(path: Path, where: str, value: Any, shape: Any) -> None:
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise _malformed(path, f"{where} to be a list", repr(value))
        for i, entry in enumerate(value):
            _check(path, f"{where}[{i}]", entry, shape[0])
    elif isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            raise _malformed(path, f"{where or 'the whole'} to be an object", repr(value))
        for key, inner in shape.items():
            name = key.removesuffix("?")
            for found in [k for k in value if name == "*" and k not in shape] or [name]:
                at = f"{where}.{found}" if where else found
                if value.get(found) is not None:
                    _check(path, at, value[found], inner)
                elif not key.endswith("?") and (name != "*" or found in value):
                    raise _malformed(path, at, "null" if found in value else "nothing of that name")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape not in (bool, object)):
        raise _malformed(path, f"{where} to be {_NAMES[shape]}", repr(value))


_NAMES = {str: "a text", int: "a whole number", _NUMBER: "a number", bool: "true or false"}


def _malformed(path: Path, expected: str, got: str) -> Refusal:
    return Refusal(
        str(path), expected=expected, got=got, do="Run the recipe again; the report shows only what it finds."
    )
