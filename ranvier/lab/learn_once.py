"""The fit of detectors that learn a pattern from one presentation, and what they make of others."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from ranvier.core.files import save
from ranvier.lab.checkpoint import seed_all
from ranvier.lab.classify import one_of_each
from ranvier.lab.recipe import Recipe, Result, Session
from ranvier.models.spatial_patterns import (
    PatternClassifier,
    SpatialPatternDetector,
    detection_vs_hamming,
    flipped,
    overlapping,
)

INPUTS, ACTIVE, OVERLAPS, DISTANCES = 100, 20, (0, 25, 50, 75), (2, 4, 6, 8, 10, 12, 16, 20)


@dataclass(frozen=True)
class LearnOnce:
    """Show `each` examples a class once and ask for the test's classes; try detectors of random patterns with `samples` inputs.

    Metrics: accuracy; errors of detectors of one pattern at f = 1 and f = 0.9; false alarms of detectors of two patterns of
    some overlap, the mean over inputs at each of DISTANCES; how often a pattern is seen whose spikes do not come at once.
    """

    each: int
    samples: int

    def __call__(self, recipe: Recipe, session: Session) -> Result:
        seed_all(session.seed)
        split, chance = recipe.data(0), np.random.default_rng(session.seed)
        model, generator = recipe.model(), torch.Generator().manual_seed(session.seed)
        assert isinstance(model, PatternClassifier)
        result = Result({}, classes=split.test.classes, model=model, examples=one_of_each(split.test))
        test = split.test.batch()
        chosen = [chance.permutation(np.flatnonzero(split.train.y == label))[: self.each] for label in range(10)]
        scores = torch.zeros(0)
        for shown in range(self.each):
            for label, index in enumerate(chosen):
                if session.stop.is_set():
                    result.interrupted = True
                    return result
                model.learn(split.train.batch(index[shown : shown + 1]).x, label)
            scores = torch.cat([model(x) for x in test.x.split(1000, 1)])
            result.curves.append(
                {"fold": 0, "epoch": shown, "test accuracy": float((scores.argmax(1) == test.y).double().mean())}
            )
        confusion = np.zeros((10, 10), dtype=np.int64)
        np.add.at(confusion, (test.y.numpy(), scores.argmax(1).numpy()), 1)
        result.confusion = confusion.tolist()
        result.metrics = {"accuracy": result.curves[-1]["test accuracy"], **_errors(self.samples, generator)}
        for overlap in OVERLAPS:
            both = overlapping(INPUTS, ACTIVE, ACTIVE * overlap // 100, generator)
            detector = _detector(both, 1.0, "shared")
            rows = detection_vs_hamming(detector, both, DISTANCES, self.samples // 10, session.seed)
            result.metrics[f"false alarms, overlap {overlap} %"] = float(np.mean([row["false alarms"] for row in rows]))
            result.curves[0][f"false alarms, overlap {overlap} %"] = rows[0]["false alarms"]
        weights = session.folder / "weights" / "network-0.safetensors"
        weights.parent.mkdir(exist_ok=True)
        save(model.state_dict(), weights)
        return result


def _errors(samples: int, generator: torch.Generator) -> dict[str, float]:
    """Wrong answers of detectors of one pattern, by f; and how often it is seen when its spikes come at different times."""
    pattern = overlapping(INPUTS, ACTIVE, 0, generator)[0]
    exact, near = (_detector(pattern[None], f) for f in (1.0, 0.9))
    density = torch.rand(samples, 1, generator=generator)
    any_input = (torch.rand(samples, INPUTS, generator=generator) < density).float()
    ones, twos = (_flips(pattern, n) for n in (1, 2))
    threes = flipped(pattern, 3, samples, generator)
    x = torch.cat([any_input, ones, pattern[None]])
    found = {"f = 1: errors": float((exact(x[None])[0, :, 0] != (x == pattern).all(1)).sum())}
    x = torch.cat([pattern[None], ones, twos, threes])
    found["f = 0.9: errors"] = float((near(x[None])[0, :, 0] != ((x != pattern).sum(1) <= 2)).sum())
    for jitter in (0, 1, 2, 5):
        when = torch.randint(0, jitter + 1, (500, INPUTS), generator=generator)
        x = torch.nn.functional.one_hot(when, jitter + 1).permute(2, 0, 1) * pattern
        found[f"jitter {jitter} ms: seen"] = float(near(x.float()).any(0).double().mean())
    return found


def _detector(patterns: torch.Tensor, factor: float, mode: str = "one_per_pattern") -> SpatialPatternDetector:
    detector = SpatialPatternDetector(INPUTS, 1, factor, mode)  # type: ignore[arg-type]
    for pattern in patterns:
        detector.learn(pattern, 0)
    return detector


def _flips(pattern: torch.Tensor, count: int) -> torch.Tensor:
    """All inputs at that Hamming distance."""
    which = torch.tensor(list(combinations(range(len(pattern)), count)))
    return (pattern - torch.zeros(len(which), len(pattern)).scatter_(1, which, 1.0)).abs()
