"""Errors that say what was expected, what came, and what to do."""

import copyreg
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch


class _Sendable:
    """An error whose text is made from parts; pickled, as on the way from a worker process, it is its text."""

    args: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args)  # type: ignore[attr-defined]


class Refusal(_Sendable, ValueError):
    """An input that ranvier will not work on, with what was expected, what came and what to do."""

    def __init__(self, subject: str, *, expected: str, got: str, do: str) -> None:
        super().__init__(f"{subject}: expected {expected}; got {got}. {do}")


class MissingData(Refusal):
    """A file that a data set is read from is nowhere on this machine."""


class NonFinite(ArithmeticError):
    """NaN or Inf where finite numbers are needed; the text names the sample or the layer."""


class MissingPackage(_Sendable, ImportError):
    """A package that this needs is not installed; the text is the line that installs it."""

    def __init__(self, package: str, requirement: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install '{requirement}'")


def refuse_second_derivative(subject: str) -> None:
    """Inside a backward pass: a Refusal where its own gradient is wanted, which kernels do not give."""
    if torch.is_grad_enabled():
        raise Refusal(
            subject,
            expected="a first derivative",
            got="create_graph=True",
            do="Run the forward pass inside ranvier.backend('reference').",
        )


def nearest(name: str, names: Iterable[str]) -> str:
    """The sentence that names what `name` may have been meant to be.

    >>> nearest("smartwach", ["digits", "smartwatch"])
    "Did you mean 'smartwatch'? There are: digits, smartwatch."
    """
    known = sorted(names)
    close = get_close_matches(name, known, n=2, cutoff=0.5)
    guess = f"Did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{guess}There are: {', '.join(known) or 'none'}."
