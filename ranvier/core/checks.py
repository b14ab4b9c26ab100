"""Errors that say what was expected, what came, and what to do."""

import copyreg
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class _Sendable:
    """An error whose text is made from parts; pickled, as on the way from a worker process, it is its text."""

    args: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args)  # type: ignore[attr-defined]


class Refusal(_Sendable, ValueError):
    """An input that ranvier will not work on, with what was expected, what came and what to do."""

    def __init__(self, subject: str, *, expected: str, got: str, do: str) -> None:
        super().__init__(f"{subject}: expected {expected}; got {got}. {do}")


class NonFinite(ArithmeticError):
    """NaN or Inf where finite numbers are needed; the text names the sample or the layer."""


class MissingPackage(_Sendable, ImportError):
    """A package that this needs is not installed; the text is the line that installs it."""

    def __init__(self, package: str, requirement: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install '{requirement}'")


def nearest(name: str, names: Iterable[str]) -> str:
    """The sentence that names what `name` may have been meant to be.

    >>> nearest("smartwach", ["digits", "smartwatch"])
    "Did you mean 'smartwatch'? There are: digits, smartwatch."
    """
    known = sorted(names)
    close = get_close_matches(name, known, n=2, cutoff=0.5)
    guess = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{guess}There are: {', '.join(known) or 'none'}."
