"""Times of several cases, taken in turn so that whatever else the machine does hits all of them alike."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

Case = Callable[[], object]
Clock = Callable[[Case, int], float]
"""Seconds that a number of calls take."""


def wall(case: Case, calls: int) -> float:
    """Seconds on the wall."""
    start = perf_counter()
    for _ in range(calls):
        case()
    return perf_counter() - start


def gpu(case: Case, calls: int) -> float:
    """Seconds between two marks in the GPU's queue, launches included."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    first.record()
    for _ in range(calls):
        case()
    last.record()
    torch.cuda.synchronize()
    milliseconds: float = first.elapsed_time(last)
    return milliseconds / 1e3


@dataclass
class Times:
    """What one case took, in ms a call."""

    rounds: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def median(self) -> float:
        return median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)


def interleaved(
    cases: Mapping[str, Case], rounds: int, clock: Clock = wall, sample: float = 5e-3, warm_up: int = 3
) -> dict[str, Times]:
    """Every case once a round, in an order that turns round each time.

    A case is called often enough for a measurement to last `sample` seconds. One that raises is reported, not measured.

    >>> found = interleaved({"a": lambda: 1, "b": lambda: 1 / 0}, rounds=3)
    >>> len(found["a"].rounds), found["b"].error
    (3, 'ZeroDivisionError: division by zero')
    """
    found = {name: Times() for name in cases}
    calls: dict[str, int] = {}
    for name, case in cases.items():
        try:
            warm = min(clock(case, 1) for _ in range(warm_up))
            calls[name] = max(1, min(1000, round(sample / max(warm, 1e-9))))
        except Exception as error:  # another package's failure is a result here
            found[name].error = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    for turn in range(rounds):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            found[name].rounds.append(1e3 * clock(cases[name], calls[name]) / calls[name])
    return found


def ratio(times: Times, base: Times) -> float:
    """How many times as long as `base`: the median over rounds, each compared with what the base took in that round.

    >>> ratio(Times(rounds=[2.0, 40.0, 2.2]), Times(rounds=[1.0, 20.0, 1.0]))
    2.0
    """
    return median(a / b for a, b in zip(times.rounds, base.rounds, strict=True))


@dataclass
class Load:
    """How busy the machine is with other work, from now on."""

    before: float = field(default_factory=lambda: os.getloadavg()[0])
    start: tuple[float, float] = field(default_factory=lambda: (perf_counter(), _others()))

    def facts(self) -> dict[str, float | bool]:
        """Load average before and after, and the cores that others used in between."""
        cores = os.cpu_count() or 1
        elapsed = perf_counter() - self.start[0]
        others = max(0.0, (_others() - self.start[1]) / max(elapsed, 1e-9))
        return {
            "load before": self.before,
            "load after": os.getloadavg()[0],
            "cores used by others": others,
            "cores": cores,
            "busy": self.before > cores / 2 or others > cores / 4,
        }


def _others() -> float:
    """Seconds of processor time that everything but this process and its finished children has used."""
    try:
        first, _, _ = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq = (int(word) for word in first.split()[1:8])
    own = os.times()
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - sum(own[:4])
