"""Docstrings as the pages of the API show them: examples as code, and a paragraph for each of Input, Output and the like."""

import re
from typing import Any

import griffe

_PARTS = re.compile(r"(?:^|(?<=[.)\]`'\"] ))(Input|Output|Raises|Source): ", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring as Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """A docstring of this package as Markdown."""
    return "\n\n".join(_paragraph(part) for part in text.split("\n\n"))


def _paragraph(text: str) -> str:
    if text.startswith(">>> "):
        return f"```pycon\n{text}\n```"
    if text.startswith("- "):
        return text
    words = re.split(r"(`[^`]*`)", text)  # code is left as it is
    words[::2] = [re.sub(r"([*<\[])", r"\\\1", word) for word in words[::2]]
    text = _PARTS.sub(r"\n\n**\1:** ", "".join(words))
    return re.sub(r" +$", "", text, flags=re.MULTILINE).strip()
