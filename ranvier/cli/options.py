"""How options are read that typer alone can't read."""

from collections.abc import Mapping
from typing import Any

import typer.core

from ranvier.core.checks import Refusal


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


def use_threads(text: str, recipe: str, given: Mapping[str, str]) -> None:
    """Let torch use so many threads; "auto" tries, and says what it found."""
    import torch

    if text == "auto":
        from ranvier.lab.run import prepare
        from ranvier.lab.threads import fastest

        count, seconds = fastest(prepare(recipe, given)[1])
        tried = ", ".join(f"{1000 * s:.1f} ms with {n} thread{'s' * (n > 1)}" for n, s in seconds.items())
        typer.echo(f"Threads: {count} (a training step takes {tried})", err=True)
    elif text.isdecimal() and int(text) > 0:
        count = int(text)
    else:
        raise Refusal("--threads", expected="a number or auto", got=repr(text), do="Write for instance --threads 1.")
    torch.set_num_threads(count)
