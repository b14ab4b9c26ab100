"""How options are read that typer alone can't read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer.core

from ranvier.core.checks import Refusal

if TYPE_CHECKING:
    from ranvier.lab.recipe import Session


class LatestByDefault(typer.core.TyperCommand):
    """A command whose --resume may stand without a value and then means "latest"."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer, with the value put in."""
        given = []
        for word, following in zip(args, [*args[1:], "--"], strict=True):
            given.append(word)
            if word == "--resume" and following.startswith("-"):
                given.append("latest")
        return super().parse_args(ctx, given)


def threads_of(text: str) -> int | None:
    """How many threads a user wants; None for "auto"."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise Refusal("--threads", expected="a number or auto", got=repr(text), do="Write for instance --threads 1.")
    return int(text)


def use_threads(count: int | None, name: str, given: Mapping[str, str], session: "Session") -> None:
    """Let torch use so many threads; for None as many as were measured to be best, which is said."""
    import torch

    if count is None:
        from ranvier.lab.run import prepare
        from ranvier.lab.threads import choose

        _, recipe, settings = prepare(name, given)
        choice = choose(name, recipe, settings, session)
        if choice is not None:
            typer.echo(choice, err=True)
        count = 1 if choice is None else choice.threads
    torch.set_num_threads(count)
