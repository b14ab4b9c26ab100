"""The .ts text format of the UEA and UCR archives of time series classification."""

from pathlib import Path

import numpy as np

from ranvier.core.checks import Refusal


def read_ts(path: str | Path) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...]]:
    """The series of a file as [T_i, C] float32, the number of each one's class, and the classes as the header orders them.

    A line is a series: its channels between colons, their values between commas, the class at the end.

    Raises: Refusal naming the line for anything else, for time stamps and for missing values.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = Path(file.name).write_text("@classLabel true rest move\\n@data\\n1,2,3:4,5,6:move\\n")
    ...     x, y, classes = read_ts(file.name)
    >>> x[0].shape, y, classes
    ((3, 2), array([1]), ('rest', 'move'))
    """
    x: list[np.ndarray] = []
    y: list[int] = []
    facts: dict[str, list[str]] = {}
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(map(str.strip, file), 1):
            where = f"{path}, line {number}"
            if not line or line.startswith("#"):
                continue
            if "data" not in facts:
                key, *values = line.split()
                if not key.startswith("@"):
                    raise _refusal(where, "a line of the header, which begins with @ or #", repr(line))
                facts[key[1:].lower()] = values
                continue
            *channels, label = line.split(":")
            classes = facts.get("classlabel", [])[1:]
            if label not in classes:
                known = f"one of {' '.join(classes)}" if classes else "named after @classLabel true"
                raise _refusal(where, f"a class at the end, {known}", repr(label))
            try:
                series = [[float(value) for value in channel.split(",")] for channel in channels]
            except ValueError as why:
                raise _refusal(where, "numbers; time stamps and missing values are not read", str(why)) from None
            dimensions = facts.get("dimensions") or [str(x[0].shape[1] if x else len(series))]
            if not series or dimensions != [str(len(series))]:
                raise _refusal(where, f"{dimensions[0]} channels", str(len(series)))
            if len({len(channel) for channel in series}) > 1:
                raise _refusal(where, "channels of one length", str([len(channel) for channel in series]))
            x.append(np.array(series, dtype=np.float32).T.copy())
            y.append(classes.index(label))
    if not x:
        raise _refusal(str(path), "series after a line @data", "none")
    return x, np.array(y, dtype=np.int64), tuple(facts["classlabel"][1:])


def _refusal(where: str, expected: str, got: str) -> Refusal:
    return Refusal(where, expected=expected, got=got[:80], do="Get the file again.")
