"""Detectors of spatial patterns, inputs that spike at the same instant, each learnt from one presentation with a teacher."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful
from ranvier.ops.stdp import stdp, stdp_layer
from ranvier.ops.stdp.homeostasis import balanced, weakened
from ranvier.ops.stdp.reference import Neurons
from ranvier.ops.stdp.rule import Rule

_THETA, _SLACK = 1.0, 1e-6
"""The exact pattern reaches the threshold to rounding, so that much less is enough."""


class SpatialPatternDetector(Stateful):
    """LIF neurons that fire for the pattern which a teacher has named once, and for what is near it.

    One presentation: the pattern's inputs spike, a teacher makes the neuron fire `delay` ms later. STDP raises the weights of
    the former and lowers all others, and homeostasis rescales them to w = theta / (f n) for the n inputs of the pattern and to
    -theta / (f n) for the others. So the neuron fires iff hits - extras >= f n: at a Hamming distance of at most (1 - f) n.

    With `mode="shared"` a neuron that learns several patterns adds up their positive weights; inputs of none keep the negative
    weight of the last. Inputs of several patterns then drive it more than one alone needs, which makes false alarms.

    Input: x [T, B, inputs] of 0 and 1, in steps of `dt` ms. Output: spikes [T, B, outputs].
    Raises: Refusal for graded spikes, another number of inputs, an empty pattern and a factor outside 0 ... 1.
    Source: Davies, Gait, Rowley and Di Nuovo, Neurocomputing 2025; our reading, since its constants are not public.

    >>> detector = SpatialPatternDetector(4, 1)
    >>> detector.learn(torch.tensor([1, 1, 0, 0]), 0)
    >>> x = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]])
    >>> detector(x).flatten().tolist()
    [1.0, 0.0, 0.0]
    """

    weight: Tensor
    patterns: Tensor
    records = ("spikes",)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        factor: float = 1.0,
        mode: Literal["one_per_pattern", "shared"] = "one_per_pattern",
        *,
        tau: float = 20.0,
        delay: float = 2.0,
        dt: float = 1.0,
    ) -> None:
        super().__init__()
        if mode not in ("one_per_pattern", "shared"):
            do = "Choose whether a neuron may learn several patterns."
            raise Refusal("SpatialPatternDetector.mode", expected="one_per_pattern or shared", got=repr(mode), do=do)
        if not 0 < factor <= 1:
            do = "1 is the exact pattern alone."
            raise Refusal("SpatialPatternDetector.factor", expected="0 < factor <= 1", got=f"{factor:g}", do=do)
        self.factor, self.mode, self.delay = factor, mode, round(delay / dt)
        self.neurons = Neurons(math.exp(-dt / tau), _THETA * (1 - _SLACK))
        self.rule = Rule(1.0, 0.0, tau / dt, tau / dt, low=-math.inf, high=math.inf, name="SpatialPatternDetector")
        # the sum of a pattern's weights has to meet a threshold: float32 would not do for many inputs
        self.register_buffer("weight", torch.zeros(inputs, outputs, dtype=torch.float64))
        self.register_buffer("patterns", torch.zeros(outputs, dtype=torch.int64))

    @torch.no_grad()
    def learn(self, pattern: Tensor, index: int) -> None:
        """Learn a pattern [inputs] of 0 and 1 with neuron `index`, from one presentation."""
        inputs = len(self.weight)
        if pattern.shape != (inputs,) or not bool(pattern.any()):
            got = f"shape {tuple(pattern.shape)}" if pattern.shape != (inputs,) else "no active input"
            do = "Give 0 and 1 for each input."
            raise Refusal("pattern", expected=f"[{inputs}] with an active input", got=got, do=do)
        if self.mode == "one_per_pattern" and self.patterns[index]:
            do = "Give it a neuron of its own, or choose mode='shared'."
            raise Refusal(f"neuron {index}", expected="one pattern", got="a second one", do=do)
        pre, teacher = (self.weight.new_zeros(self.delay + 1, 1, n) for n in (inputs, 1))
        pre[0, 0], teacher[-1] = pattern.to(pre.dtype), 1
        raised = stdp(self.weight.new_zeros(1, inputs, 1), pre, teacher, self.rule)[0][0]
        own = balanced(weakened(raised, pre, teacher, 1.0), _THETA, self.factor)[:, 0]
        known = self.weight[:, index].clamp_min(0)
        joined = own.clamp_min(0) + known
        self.weight[:, index] = torch.where(joined > 0, joined, own)
        self.patterns[index] += 1

    def drive(self, x: Tensor) -> Tensor:
        """By how much simultaneous inputs x [B, inputs] raise the membranes [B, outputs], in units of the threshold."""
        return x.to(self.weight.dtype) @ self.weight / _THETA

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        inputs, outputs = self.weight.shape
        if x.ndim != 3 or x.shape[2] != inputs:
            got = f"shape {tuple(x.shape)}"
            do = "A single instant has one step: x.unsqueeze(0)."
            raise Refusal("SpatialPatternDetector", expected=f"[T, B, {inputs}], time first", got=got, do=do)
        return {name: self.weight.new_zeros(x.shape[1], outputs) for name in ("v", "z", "theta")}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        weight = self.weight.expand(x.shape[1], -1, -1)
        z, after = stdp_layer(x, self.neurons, None, {**state, "weight": weight})
        self.note("spikes", z.to(x.dtype))
        return z.to(x.dtype), {name: after[name] for name in state}


class PatternClassifier(nn.Module):
    """Images told apart by detectors of a few examples of each class: the one that an image drives most names it.

    Input: ink 0 ... 1 [T, B, ...], of which pixels above one half are active. Output: for each class the largest drive of its
    detectors, over neurons and steps [B, classes].

    >>> model = PatternClassifier(4, 2, each=1)
    >>> for label, row in enumerate([[0.9, 0.8, 0.0, 0.0], [0.0, 0.0, 0.7, 1.0]]):
    ...     model.learn(torch.tensor(row), label)
    >>> model(torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])).tolist()
    [[0.5, -0.5]]
    """

    def __init__(self, inputs: int, classes: int, each: int, factor: float = 1.0) -> None:
        super().__init__()
        self.classes, self.each = classes, each
        self.detector = SpatialPatternDetector(inputs, classes * each, factor)

    def learn(self, ink: Tensor, label: int) -> None:
        """Learn an example of a class, with the first of its detectors that has none."""
        known = self.detector.patterns.view(self.classes, self.each)[label]
        if bool(known.all()):
            do = "Make the classifier with more of them."
            raise Refusal(f"class {label}", expected=f"{self.each} examples", got="another one", do=do)
        self.detector.learn(ink.flatten() > 0.5, label * self.each + int(known.sum()))

    def forward(self, x: Tensor) -> Tensor:
        active = (x.detach().flatten(2) > 0.5).to(x.dtype)
        self.detector(active)  # what the neurons do, for whoever records it
        drive = self.detector.drive(active).view(*x.shape[:2], self.classes, self.each)
        # without an example there is nothing to be driven
        known = self.detector.patterns.view(self.classes, self.each) > 0
        return drive.masked_fill(~known, -math.inf).amax((0, 3)).to(x.dtype)


def overlapping(inputs: int, active: int, common: int, generator: torch.Generator) -> Tensor:
    """Two random patterns [2, inputs] of `active` inputs each, `common` of them the same.

    >>> a, b = overlapping(100, 20, 5, torch.Generator())
    >>> int(a.sum()), int(b.sum()), int((a * b).sum())
    (20, 20, 5)
    """
    order, both = torch.randperm(inputs, generator=generator), torch.zeros(2, inputs)
    both[0, order[:active]] = 1
    both[1, order[active - common : 2 * active - common]] = 1
    return both


def flipped(pattern: Tensor, distance: int, samples: int, generator: torch.Generator) -> Tensor:
    """Samples [samples, inputs] at a Hamming distance from a pattern [inputs]: that many inputs changed, at random.

    >>> (flipped(torch.zeros(9), 3, 5, torch.Generator()) != 0).sum(1).tolist()
    [3, 3, 3, 3, 3]
    """
    which = torch.rand(samples, len(pattern), generator=generator).argsort(1)[:, :distance]
    change = torch.zeros(samples, len(pattern)).scatter_(1, which, 1.0)
    return (pattern.float() - change).abs()


def detection_vs_hamming(
    detector: SpatialPatternDetector, patterns: Tensor, distances: Sequence[int], samples: int, seed: int = 0
) -> list[dict[str, float]]:
    """How well trained patterns [K, inputs] are told from inputs at each Hamming distance from one of them.

    Output: a row a distance: false alarms (the share of these inputs for which a neuron fires), accuracy, precision, recall and
    specificity, trained patterns and others counting alike. An input that is a trained pattern itself is left out.

    >>> detector = SpatialPatternDetector(6, 1)
    >>> pattern = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    >>> detector.learn(pattern[0], 0)
    >>> detection_vs_hamming(detector, pattern, [1], 50)[0]["accuracy"]
    1.0
    """
    generator, rows = torch.Generator().manual_seed(seed), []
    recall = float(detector(patterns.float()[None]).any(2).double().mean())
    for distance in distances:
        x = torch.cat([flipped(p, distance, samples, generator) for p in patterns])
        x = x[~(x[:, None] == patterns.float()[None]).all(2).any(1)]
        alarms = float(detector(x[None]).any(2).double().mean()) if len(x) else 0.0
        found = {"distance": float(distance), "false alarms": alarms, "recall": recall, "specificity": 1 - alarms}
        found["precision"] = recall / (recall + alarms) if recall + alarms else 0.0
        rows.append({**found, "accuracy": (recall + 1 - alarms) / 2})
    return rows
