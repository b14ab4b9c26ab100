"""What backward keeps of a step: the fewest values from which it can work out everything else.

The flow is our own: importing networkx would take as long as a first call may, and steps have some fifty operations.
"""

from collections.abc import Collection, Iterator, Sequence

from ranvier.compile.symbol import BOOLEAN, Symbol, topological

DRAWS = frozenset({"uniform", "normal"})
FUNCTIONS = DRAWS | {"exp", "log", "tanh", "sigmoid", "sin", "cos", "atan", "erf"}


def fewest(
    gradients: Sequence[Symbol], incoming: Collection[str], costly: Collection[str] = DRAWS
) -> tuple[Symbol, ...]:
    """The smallest set of forward values that all gradients can be computed from, beside the `incoming` gradients.

    A minimum vertex cut between what a step starts from (input, states, and operations that are too `costly` to be done
    once more) and what its gradients use; among equals the one nearest to the gradients, which leaves least to compute. Truth values are not kept: they would need a type of
    their own.

    >>> from ranvier.compile.symbol import Graph
    >>> graph = Graph(); x, s, g = (graph.input(k) for k in ("x", "s:v", "gy"))
    >>> u = x + s
    >>> [kept] = fewest([g * (u * 2.0), g * u], ["gy"]); kept is u
    True
    """
    symbols = [s for s in topological(gradients) if not s.fixed and s.op != "constant" and s.value != "t"]
    late = set()  # what depends on incoming gradients
    for s in symbols:
        if s.value in incoming if s.op == "input" else any(a.number in late for a in s.args):
            late.add(s.number)
    early = {s.number: s for s in symbols if s.number not in late}
    used = {a.number for s in symbols if s.number in late for a in s.args} | {s.number for s in gradients}
    after: dict[int, list[int]] = {n: [] for n in early}
    for s in early.values():
        for a in s.args if s.op not in costly else ():
            if a.number in early:
                after[a.number].append(s.number)
    starts = [n for n, s in early.items() if s.op == "input" or s.op in costly]
    ends = used & early.keys()
    flow = _Flow(after, starts, ends, {n for n, s in early.items() if s.op in BOOLEAN})
    return tuple(early[n] for n in early if n in flow.cut())


class _Flow:
    """Paths from starts to ends that share no vertex, except those without limit; each vertex is its entrance and its exit."""

    def __init__(
        self, after: dict[int, list[int]], starts: Sequence[int], ends: Collection[int], unlimited: Collection[int]
    ) -> None:
        self.room: dict[tuple[object, object], float] = {}
        self.near: dict[object, list[object]] = {}
        for n, following in after.items():
            self._edge((n, "in"), (n, "out"), float("inf") if n in unlimited else 1)
            for m in following:
                self._edge((n, "out"), (m, "in"), float("inf"))
        for n in starts:
            self._edge("start", (n, "in"), float("inf"))
        for n in ends:
            self._edge((n, "out"), "end", float("inf"))
        self.vertices = list(after)
        while path := self._path():
            for a, b in path:
                self.room[a, b] -= 1
                self.room[b, a] += 1

    def cut(self) -> set[int]:
        """The vertices of a smallest cut that lie nearest to the end."""
        reaching, stack = {"end"}, ["end"]  # type: set[object], list[object]
        while stack:
            b = stack.pop()
            for a in self.near.get(b, ()):
                if a not in reaching and self.room[a, b] > 0:
                    reaching.add(a)
                    stack.append(a)
        return {n for n in self.vertices if (n, "out") in reaching and (n, "in") not in reaching}

    def _edge(self, a: object, b: object, room: float) -> None:
        self.room[a, b], self.room[b, a] = room, 0
        self.near.setdefault(a, []).append(b)
        self.near.setdefault(b, []).append(a)

    def _path(self) -> list[tuple[object, object]]:
        came: dict[object, object] = {"start": None}
        stack: list[object] = ["start"]
        while stack and "end" not in came:
            a = stack.pop()
            for b in self.near.get(a, ()):
                if b not in came and self.room[a, b] > 0:
                    came[b] = a
                    stack.append(b)
        return list(self._back(came)) if "end" in came else []

    def _back(self, came: dict[object, object]) -> Iterator[tuple[object, object]]:
        b: object = "end"
        while b != "start":
            yield came[b], b
            b = came[b]
