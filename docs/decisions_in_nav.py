"""All decisions stand in the navigation, without a list to keep."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """The configuration with the pages of docs/decisions under their heading."""
    folder = Path(config["docs_dir"])
    pages = sorted(path.relative_to(folder).as_posix() for path in (folder / "decisions").glob("*.md"))
    config["nav"] = [*config["nav"], {"Decisions": pages}]
    return config
