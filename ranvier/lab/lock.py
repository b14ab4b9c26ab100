"""One process to a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ranvier.core.checks import Refusal


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While inside, no other process gets in here for the same folder; a process that is killed lets go.

    Raises: Refusal when another is inside.
    """
    try:
        import fcntl
    except ImportError:  # not on this system, where a user has to look to it
        yield
        return
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Refusal(
                str(folder),
                expected="a folder that no other process works in",
                got=f"one that process {file.read() or '?'} works in",
                do="Wait for it, or end it.",
            ) from None
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
