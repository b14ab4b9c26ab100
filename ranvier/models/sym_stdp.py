"""A classifier whose synapses learn from spikes alone: hidden neurons compete for prototypes, a teacher names them."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.random import fresh_seeds
from ranvier.core.state import Stateful
from ranvier.nn.coding.direct import static
from ranvier.ops.bernoulli_spikes import bernoulli_spikes
from ranvier.ops.spike_pack.spikes import Spikes
from ranvier.ops.stdp.homeostasis import scaled
from ranvier.ops.stdp.rule import Rule
from ranvier.ops.winner_take_all import Circuit, Outcome, rest, winner_take_all

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Presentation:
    """How an image is shown: as Poisson spikes for `shown` ms, then nothing for `pause` ms.

    A pixel of ink 0 ... 1 fires at 255 / 8 s Hz times its ink, with s = `strength` at first. Where fewer than `fewest` spikes
    of the hidden layer answer, the image is shown again with s one higher, up to `strongest`. Teachers fire at `teacher` Hz.
    """

    shown: float = 350.0
    pause: float = 150.0
    strength: int = 2
    strongest: int = 32
    fewest: int = 5
    teacher: float = 200.0


@dataclass(frozen=True)
class Plasticity:
    """How much a spike changes: rates and bounds of the synapses onto hidden and output neurons, and what these add up to."""

    eta: float = 0.005
    eta_out: float = 0.04
    w_max: float = 1.0
    w_max_out: float = 8.0
    a: float = 0.1
    tau: float = 20.0
    mean: float = 0.1
    """Incoming weights of a hidden neuron add up to this times the inputs; those of an output neuron to this times w_max_out times N."""


class SymSTDPClassifier(Stateful):
    """Three layers trained by symmetric STDP: inputs, hidden neurons that inhibit each other, and an output for each class.

    The circuit of `ranvier.ops.winner_take_all`. In training a teacher's spikes stand in for the output neurons'. All changes are
    potentiation (`ranvier.learn`'s SymSTDP) on both sides; scaling before each sample and thresholds that rise with each own spike make
    hidden neurons differ. As a module it is in test mode: weights, traces and thresholds rest.

    Input: spikes x [T, B, inputs], each 0 or 1, of steps of dt = 0.5 ms, or `Spikes`. Output: spikes [T, B, classes].
    Raises: Refusal for graded spikes and another number of inputs.
    Source: Hao, Huang, Dong and Xu, Neural Networks 2020; constants of the authors' code for MNIST.

    >>> model = SymSTDPClassifier(16, 8, 3)
    >>> model(torch.zeros(10, 2, 16)).shape
    torch.Size([10, 2, 3])
    """

    weight: Tensor
    readout: Tensor
    theta: Tensor
    records = ("spikes",)

    def __init__(
        self,
        inputs: int = 784,
        neurons: int = 400,
        classes: int = 10,
        *,
        circuit: Circuit = Circuit(),
        plasticity: Plasticity = Plasticity(),
        presentation: Presentation = Presentation(),
        adaptive: bool = True,
    ) -> None:
        super().__init__()
        if min(inputs, neurons, classes) < 1:
            got = f"{inputs}, {neurons} and {classes}"
            raise Refusal("SymSTDPClassifier", expected="one neuron a layer or more", got=got, do="Give its sizes.")
        self.circuit = circuit if adaptive else replace(circuit, theta_plus=0.0, tau_theta=math.inf)
        self.presentation = presentation
        p = plasticity
        self.rules = (
            Rule.symmetric(p.eta * p.a, p.tau / circuit.dt, p.w_max),
            Rule.symmetric(p.eta_out * p.a, p.tau / circuit.dt, p.w_max_out),
        )
        self.sums = p.mean * inputs, p.mean * neurons * p.w_max_out
        self.register_buffer("weight", torch.rand(inputs, neurons) * 0.3)
        self.register_buffer("readout", torch.full((neurons, classes), 0.1))
        self.register_buffer("theta", torch.full((neurons,), circuit.theta_start))

    def rest(self, x: Tensor | Spikes) -> Tensors:
        if x.ndim != 3 or x.shape[2] != len(self.weight):
            got, expected = f"shape {tuple(x.shape)}", f"[T, B, {len(self.weight)}], time first"
            raise Refusal("SymSTDPClassifier", expected=expected, got=got, do="Flatten the features.")
        return rest(self.weight[None], self.readout[None], self.theta, self.circuit, x.shape[1])

    def advance(self, x: Tensor | Spikes, state: Tensors) -> tuple[Tensor, Tensors]:
        outcome = winner_take_all(x, {**state, **self._weights(x.shape[1])}, self.circuit, record=self.wants("spikes"))
        if outcome.hidden is not None:
            self.note("spikes", outcome.hidden)
        y = outcome.output if isinstance(x, Spikes) else outcome.output.to(x.dtype)
        return y, {name: outcome.state[name] for name in state}

    def learn(self, ink: Tensor, label: Tensor, seed: Tensor, state: Tensors | None = None) -> tuple[Tensor, Tensors]:
        """Show images of ink [B, inputs] with their classes [B], and change the weights; hidden spikes [B, N] and the state.

        With more than one image each changes the same weights on its own and their mean is taken: an approximation of
        one after the other. `seed` [B] is what the images' and the teachers' spikes are drawn from.
        """
        self.weight.copy_(scaled(self.weight, self.sums[0]))
        self.readout.copy_(scaled(self.readout, self.sums[1]))
        dt, show = self.circuit.dt, self.presentation
        classes = self.readout.shape[1]
        teacher = torch.nn.functional.one_hot(label, classes) * (show.teacher * dt * 1e-3)
        fired, state = ink.new_zeros(len(ink), len(self.theta)), state or {}
        for strength in range(show.strength, show.strongest + 1):
            x = self._shown(ink, strength, seed + strength)
            told = _then_silent(bernoulli_spikes(teacher, self._steps(show.shown), ~(seed + strength)), len(x))
            given = {**(state or self.rest(x)), **self._weights(len(ink))}
            outcome = winner_take_all(x, given, self.circuit, self.rules, told)
            fired, state = outcome.fired, self._kept(outcome)
            if int(fired.sum(1).min()) >= show.fewest:
                break
        return fired, state

    def respond(self, ink: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes of the output neurons [B, classes] and of the hidden ones [B, N] to images of ink [B, inputs], in test mode."""
        show, batch = self.presentation, len(ink)
        output, hidden = ink.new_zeros(batch, self.readout.shape[1]), ink.new_zeros(batch, len(self.theta))
        left = torch.arange(batch)
        for strength in range(show.strength, show.strongest + 1):
            x = self._shown(ink[left], strength, seed[left] + strength)[: self._steps(show.shown)]
            outcome = winner_take_all(x, {**self.rest(x), **self._weights(len(left))}, self.circuit)
            output[left], hidden[left] = outcome.output.sum(0), outcome.fired
            left = left[outcome.fired.sum(1) < show.fewest]
            if not len(left):
                break
        return output, hidden

    def _steps(self, time: float) -> int:
        return round(time / self.circuit.dt)

    def _shown(self, ink: Tensor, strength: int, seed: Tensor) -> Spikes:
        shown, pause = self.presentation.shown, self.presentation.pause
        x = bernoulli_spikes(_chance(ink, strength, self.circuit.dt), self._steps(shown), seed)
        return _then_silent(x, self._steps(shown + pause))

    def _weights(self, batch: int) -> Tensors:
        return {k: getattr(self, k).expand(batch, -1, -1) for k in ("weight", "readout")}

    @torch.no_grad()
    def _kept(self, outcome: Outcome) -> Tensors:
        """Take over what the samples' weights and thresholds have become; the rest of the state."""
        state = dict(outcome.state)
        for name, mine in (("weight", self.weight), ("readout", self.readout), ("theta", self.theta)):
            found = state[name]
            mine.copy_(found[0] if len(found) == 1 else found.mean(0))
        del state["weight"], state["readout"]
        state["theta"] = self.theta.expand_as(state["theta"]).clone()
        return state


class PoissonImages(nn.Module):
    """Images as the spikes by which `SymSTDPClassifier` is shown them in a test, the same every time.

    Input: ink 0 ... 1 as a single step [1, B, ...]. Output: spikes [T, B, pixels].
    Raises: Refusal for more than one step.

    >>> PoissonImages()(torch.ones(1, 2, 1, 4, 4)).shape
    torch.Size([700, 2, 16])
    """

    def __init__(self, dt: float = 0.5, presentation: Presentation = Presentation(), seed: int = 0) -> None:
        super().__init__()
        self.dt, self.presentation, self.seed = dt, presentation, seed

    def forward(self, x: Tensor) -> Tensor:
        ink, show = static("PoissonImages", x)[0].flatten(1).detach(), self.presentation
        seed = fresh_seeds(len(ink), torch.device("cpu"), self.seed)
        chance = _chance(ink, show.strength, self.dt)
        return bernoulli_spikes(chance, round(show.shown / self.dt), seed).dense(x.dtype)


def _chance(ink: Tensor, strength: int, dt: float) -> Tensor:
    """Of a spike in a step."""
    return (ink.double() * (255 / 8 * strength * dt * 1e-3)).clamp(0, 1)


def _then_silent(x: Spikes, steps: int) -> Spikes:
    """With silence up to a number of steps."""
    silent = x.pointer[-1:].expand((steps - len(x)) * x.shape[1])
    return Spikes(torch.cat([x.pointer, silent]), x.index, torch.Size((steps, *x.shape[1:])))


@dataclass
class Labels:
    """The read-out without output neurons: each hidden neuron stands for the class that it answers most, classes by mean rates."""

    classes: int
    sums: Tensor = field(default_factory=lambda: torch.zeros(0))
    shown: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, fired: Tensor, label: Tensor) -> None:
        """Count hidden spikes [B, N] for their classes [B]."""
        which = torch.nn.functional.one_hot(label, self.classes).to(fired.dtype)
        self.sums = which.t() @ fired + (self.sums if len(self.sums) else 0.0)
        self.shown = which.sum(0) + (self.shown if len(self.shown) else 0.0)

    def scores(self, fired: Tensor) -> Tensor:
        """Mean spikes [B, classes] of the neurons of each class."""
        label = (self.sums / self.shown.clamp_min(1).unsqueeze(1)).argmax(0)
        mine = torch.nn.functional.one_hot(label, self.classes).to(fired.dtype) * (self.sums.sum(0) > 0).unsqueeze(1)
        return (fired @ mine) / mine.sum(0).clamp_min(1)
