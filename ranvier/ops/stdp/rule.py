"""The numbers that every rule of spike-timing-dependent plasticity here comes to."""

import math
from dataclasses import dataclass, fields

from ranvier.core.checks import Refusal


@dataclass(frozen=True)
class Rule:
    """Traces and what they do to a weight w from neuron i to neuron j.

    Traces fall by exp(-1 / tau) a step: r1 and r2 of i, o1 and o2 of j. A spike adds 1 to its neuron's, or sets them to 1
    where only the nearest spike counts. In a step first the spikes of i, then those of j:

        w -= F-(w) o1_j (a_minus + a3_minus r2_i)    at a spike of i
        w += F+(w) r1_i (a_plus + a3_plus o2_j)      at a spike of j

    with r1 after i's spike of this step and r2, o1, o2 before this step's. So spikes of one step are a pair of distance 0,
    pre before post. F is 1, or with soft bounds the distance to the bound that w moves to; then w is held in low ... high.

    Raises: Refusal for times that are not positive, bounds that are not in order, numbers that are not finite, and a pair's
    and a triplet's amplitude of opposite signs.
    """

    a_plus: float
    a_minus: float
    tau_plus: float
    """of r1, in steps"""
    tau_minus: float
    """of o1"""
    a3_plus: float = 0.0
    a3_minus: float = 0.0
    tau_x: float = 1.0
    """of r2"""
    tau_y: float = 1.0
    """of o2"""
    nearest: bool = False
    soft: bool = False
    low: float = 0.0
    high: float = 1.0
    name: str = "Rule"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            bound = field.name in ("low", "high")  # a weight may be without one
            if math.isnan(value) or (math.isinf(value) and not (bound and not self.soft)):
                raise self._refusal(field.name, "a finite number", value, "Give a number.")
            if field.name.startswith("tau") and value <= 0:
                raise self._refusal(field.name, "a positive time", value, "Give it in the unit of dt.")
        if self.low >= self.high:
            raise self._refusal("low", f"less than high = {self.high:g}", self.low, "Give the lower bound first.")
        for pair, triplet in (("a_plus", "a3_plus"), ("a_minus", "a3_minus")):
            if getattr(self, pair) * getattr(self, triplet) < 0:
                raise self._refusal(triplet, f"the sign of {pair}", getattr(self, triplet), "Give both one sign.")

    @classmethod
    def symmetric(cls, grows: float, tau: float, high: float, name: str = "Rule") -> "Rule":
        """Every pair of spikes s steps apart adds grows exp(-|s| / tau), whichever came first."""
        return cls(grows, -grows, tau, tau, high=high, name=name)

    @property
    def triplet(self) -> bool:
        """Whether the slow traces r2 and o2 matter."""
        return self.a3_plus != 0 or self.a3_minus != 0

    @property
    def traces(self) -> dict[str, tuple[int, float]]:
        """The traces it has: on which side (0: pre, 1: post), and their time constants."""
        fast = {"pre": (0, self.tau_plus), "post": (1, self.tau_minus)}
        return fast | ({"pre_slow": (0, self.tau_x), "post_slow": (1, self.tau_y)} if self.triplet else {})

    def _refusal(self, what: str, expected: str, got: float, do: str) -> Refusal:
        return Refusal(f"{self.name}.{what}", expected=expected, got=f"{got:g}", do=do)
