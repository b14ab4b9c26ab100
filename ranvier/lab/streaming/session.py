"""A network at work on recordings: what it says after every few steps, and what that took."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ranvier.core.checks import NonFinite, Refusal
from ranvier.deploy.engine.activity import active, spiking_layers
from ranvier.deploy.engine.admission import OnBad
from ranvier.deploy.engine.events import EventStream, Steps
from ranvier.deploy.engine.program import Live
from ranvier.lab.streaming.latency import Latency
from ranvier.lab.streaming.network import Network
from ranvier.lab.streaming.sources import Recording, Wanted

_ROWS = 4096


@dataclass(frozen=True)
class Report:
    """What the network says of a recording so far."""

    recording: str
    label: str | None
    step: int
    """steps made"""
    seconds: float | None
    """of the recording, where its time is known"""
    decision: str | None
    """None before the network's first output"""
    confidence: float
    """the probability of that class, the softmax of the scores"""
    probabilities: list[float]
    rates: dict[str, float]
    """active neurons per neuron and step since the report before, by layer; repeated silence counts as its last step"""
    last: bool = False
    """whether it is the last of its recording"""


@dataclass
class Totals:
    """What all recordings together were."""

    recordings: int = 0
    labelled: int = 0
    right: int = 0
    events: int = 0
    """that came in; with frames, numbers that are not 0"""
    steps: int = 0
    skipped: int = 0
    """of the steps, those in which silence repeated itself exactly"""
    dropped: Counter[str] = field(default_factory=Counter)
    latency: Latency = field(default_factory=Latency)
    """from a step's input to the decision"""


class Session:
    """Plays recordings through a network; `totals` adds up. With `speed` 1 as fast as they were recorded, else at once."""

    def __init__(
        self,
        network: Network,
        wanted: Wanted,
        every: int = 1,
        speed: float | None = None,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.network, self.wanted, self.every = network, wanted, max(1, every)
        self.speed, self.now, self.sleep = speed, now, sleep
        self.totals = Totals()

    @property
    def on_bad(self) -> OnBad:
        return self.wanted.on_bad

    def play(self, recording: Recording) -> Iterator[Report]:
        """Reports of one recording, after every few steps and at its end.

        Raises: Refusal and NonFinite for bad input, after the last report of what came before it.
        """
        self.totals.recordings += 1
        if self.speed is not None and recording.dt is None:
            do = "Give --dt MICROSECONDS, or leave out --speed."
            raise Refusal(recording.name, expected="microseconds per step for --speed", got="none", do=do)
        playing: _Frames | _Events | None = None
        broken: Exception | None = None
        try:
            for chunk in recording.chunks:
                playing = playing or (_Events if chunk.dtype.names else _Frames)(self, recording)
                yield from playing.take(chunk)
        except (Refusal, NonFinite) as why:
            broken = why
        if playing is not None:
            yield from playing.finish()
        self.totals.dropped.update(recording.dropped)
        if broken is not None:
            raise broken

    def judged(self, report: Report) -> Report:
        if report.label is not None and report.decision is not None:
            self.totals.labelled += 1
            self.totals.right += report.decision == report.label
        return report


class _Voice:
    """What is said of one sequence from rest: outputs read out, activity added up, in the recording's own time."""

    def __init__(self, session: Session, recording: Recording, live: Live) -> None:
        self.session, self.recording, self.live = session, recording, live
        self.layers = spiking_layers(live)
        self.totals, self.dt = session.totals, recording.dt
        self.state: dict[str, Tensor] | None = None
        self.chances = torch.zeros(0)
        self.rows: list[np.ndarray] = []
        self.spikes, self.since, self.step = np.zeros(len(self.layers)), 0, 0
        self.begun = self.started = session.now()

    def heard(self, outputs: np.ndarray, steps: int, times: int = 1) -> Iterator[Report]:
        """Take the outputs of some steps, the last of which the network has just made."""
        self.spikes += np.array(active(self.live, self.layers)) * steps * times
        self.since += steps * times
        self.step += steps * times
        self.totals.steps += steps * times
        if times == 1:
            self.rows.append(outputs)
        else:
            most = max(1, _ROWS // max(1, len(outputs)))
            for part in range(0, times, most):
                self.rows.append(np.tile(outputs, (min(most, times - part), 1)))
                self._read()
        if self.since >= self.session.every:
            yield self.report()

    def report(self, last: bool = False) -> Report:
        self._read()
        if self.since:
            self.totals.latency.add(self.session.now() - self.started)
        seconds = None if self.dt is None else float(self.step * self.dt) / 1e6
        if self.session.speed and seconds is not None:
            wait = self.begun + seconds / self.session.speed - self.session.now()
            if wait > 0:
                self.session.sleep(wait)
        rates = self.spikes / np.array([max(1, layer.neurons) * max(1, self.since) for layer in self.layers])
        best = int(self.chances.argmax()) if len(self.chances) else -1
        report = Report(
            recording=self.recording.name,
            label=self.recording.label,
            step=self.step,
            seconds=seconds,
            decision=None if best < 0 else self._name(best),
            confidence=0.0 if best < 0 else float(self.chances[best]),
            probabilities=self.chances.tolist(),
            rates={layer.name: float(rate) for layer, rate in zip(self.layers, rates, strict=True)},
            last=last,
        )
        self.spikes, self.since = np.zeros(len(self.layers)), 0
        self.started = self.session.now()
        return report

    def _name(self, best: int) -> str:
        classes = self.session.wanted.run.classes
        return classes[best] if best < len(classes) else str(best)

    def _read(self) -> None:
        rows = np.concatenate(self.rows) if self.rows else np.zeros((0, 0), np.float32)
        self.rows = []
        if len(rows):
            self.chances, self.state = self.session.network.read(torch.from_numpy(rows), self.state)


class _Events:
    """A recording that comes as events."""

    def __init__(self, session: Session, recording: Recording) -> None:
        wanted, dt = session.wanted, recording.dt
        if dt is None:
            do = "Give --dt MICROSECONDS."
            raise Refusal(recording.name, expected="microseconds per step for events", got="none", do=do)
        if session.network.front is not None:
            do = "Give it frames, or a file of the kind that it was trained on."
            raise Refusal(recording.name, expected="a network of events", got="one of signals", do=do)
        self.session = session
        self.stream = EventStream(session.network.program, wanted.sensor, dt, on_bad=session.on_bad)
        self.voice = _Voice(session, recording, self.stream.live)

    def take(self, chunk: np.ndarray) -> Iterator[Report]:
        self.voice.started = self.session.now()
        try:
            self._feed(chunk)
        except Refusal:
            self._feed(chunk[: max(0, self.stream.admission.refused)])  # what came before it is kept
            yield from self._heard(self.stream.steps(most=1))
            raise
        yield from self._heard(self.stream.steps(most=1))

    def finish(self) -> Iterator[Report]:
        yield from self._heard(self.stream.finish(most=1))
        self.session.totals.skipped += self.stream.skipped
        self.session.totals.dropped.update(self.stream.dropped)
        yield self.session.judged(self.voice.report(last=True))

    def _feed(self, chunk: np.ndarray) -> None:
        before = self.stream.seen
        self.stream.feed(chunk)
        self.session.totals.events += self.stream.seen - before

    def _heard(self, found: Iterator[Steps]) -> Iterator[Report]:
        for s in found:
            yield from self.voice.heard(s.outputs, s.length, s.times)


class _Frames:
    """A recording that comes as frames; of a network that presents pictures each frame is one from rest."""

    def __init__(self, session: Session, recording: Recording) -> None:
        self.session, self.recording, self.network = session, recording, session.network
        self.voice: _Voice | None = None
        self.left = torch.zeros(0, *session.wanted.shape)
        self.number = 0

    def take(self, chunk: np.ndarray) -> Iterator[Report]:
        x = torch.from_numpy(np.ascontiguousarray(chunk, np.float32))
        fine = torch.isfinite(x).flatten(1).all(1)
        bad = int(fine.logical_not().sum())
        if bad and self.session.on_bad == "raise":
            first = int(fine.logical_not().nonzero()[0])
            yield from self._made(x[:first])
            where = f"{self.recording.name} frame {self.number}"
            raise NonFinite(f"{where}: expected finite numbers, got NaN or Inf. Repair it, or use --on-bad drop.")
        self.session.totals.dropped["not finite"] += bad
        yield from self._made(x[fine])

    def finish(self) -> Iterator[Report]:
        self.session.totals.dropped["incomplete"] += len(self.left)
        if self.voice is not None:
            yield self.session.judged(self.voice.report(last=True))

    def _made(self, x: Tensor) -> Iterator[Report]:
        self.number += len(x)
        self.session.totals.events += int(x.count_nonzero())
        if self.network.static:
            for picture in x:
                if self.voice is not None:
                    yield self.session.judged(self.voice.report(last=True))
                self.voice = self._voice()
                yield from self._steps(self.voice, self.network.prepared(picture[None]))
            return
        x = torch.cat([self.left, x])
        whole = len(x) - len(x) % self.network.pool
        self.left = x[whole:]
        self.voice = self.voice or self._voice()
        if whole:
            yield from self._steps(self.voice, self.network.prepared(x[:whole]))

    def _voice(self) -> _Voice:
        voice = _Voice(self.session, self.recording, Live(self.network.program))
        if voice.dt is not None:
            voice.dt *= self.network.pool
        return voice

    def _steps(self, voice: _Voice, x: Tensor) -> Iterator[Report]:
        voice.started = self.session.now()
        for i in range(len(x)):
            yield from voice.heard(voice.live.frames(x[i : i + 1]).numpy(), 1)
