"""The numbers of a winner-take-all circuit of conductance-based neurons."""

import math
from dataclasses import dataclass

from ranvier.core.checks import Refusal


@dataclass(frozen=True)
class Circuit:
    """Excitatory neurons E that inhibit each other through one inhibitory neuron I each, and an output layer C.

    tau dV/dt = rest - V + g_exc (0 - V) + g_inh (reversal - V) by Euler's rule, V not below the reversal of inhibition. A
    conductance grows by a synapse's weight when a spike arrives and falls by exp(-dt / tau) a step. A neuron that has
    fired holds its reset for the refractory time, while its conductances go on. Input spikes arrive in their step,
    those of E and I in the next.

    E fires above threshold + theta. theta grows by theta_plus (start - pole) / |theta - pole| at an own spike and falls
    with tau_theta. Times are in ms, voltages in mV.

    Raises: Refusal for a time that is not positive.
    """

    dt: float = 0.5
    tau: float = 100.0
    rest: float = -65.0
    reset: float = -65.0
    threshold: float = -72.0
    theta_start: float = 20.0
    theta_pole: float = 10.0
    theta_plus: float = 0.07
    tau_theta: float = 6e6
    small_tau: float = 10.0
    """of I and C, as the following ones"""
    small_rest: float = -60.0
    small_reset: float = -45.0
    small_threshold: float = -40.0
    refractory: float = 2.0
    tau_exc: float = 1.0
    tau_inh: float = 2.0
    reversal: float = -100.0
    to_inhibitory: float = 10.4
    inhibition: float = 17.0

    def __post_init__(self) -> None:
        for name in ("dt", "tau", "tau_theta", "small_tau", "tau_exc", "tau_inh"):
            value = getattr(self, name)
            if not value > 0:
                do = "Give it in ms."
                raise Refusal(f"Circuit.{name}", expected="a positive time", got=f"{value:g}", do=do)

    @property
    def wait(self) -> float:
        """Steps of the refractory time."""
        return float(round(self.refractory / self.dt))

    @property
    def falls(self) -> tuple[float, float]:
        """Of excitatory and of inhibitory conductances, a step."""
        return math.exp(-self.dt / self.tau_exc), math.exp(-self.dt / self.tau_inh)
