import numpy as np
import pytest
import torch

from ranvier.core.checks import Refusal
from ranvier.data.samples import Samples, Split
from ranvier.lab.baselines import random_forest


def noise(seed: int, n: int = 12) -> Samples:
    """Windows of three classes that differ in spread; no sample of the class in the middle."""
    generator, y = np.random.default_rng(seed), np.arange(n) % 2 * 2
    x = [generator.normal(scale=1 + label, size=(40, 2)).astype(np.float32) for label in y]
    return Samples(x=x, y=y, classes=("calm", "unseen", "wild"))


def test_scores_are_probabilities_by_class_number() -> None:
    split = Split(noise(0), noise(1))
    scores = random_forest(split, seed=0, trees=20)
    assert scores.shape == (12, 3) and scores.dtype == torch.float32
    assert torch.allclose(scores.sum(1), torch.ones(12)) and (scores[:, 1] == 0).all()
    assert (scores.argmax(1).numpy() == split.test.y).mean() > 0.9


def test_the_seed_decides() -> None:
    split = Split(noise(0), noise(1))
    one, again, other = (random_forest(split, seed, trees=20) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_the_features_are_those_of_featurerep() -> None:
    from seglearn.transform import FeatureRep

    from ranvier.lab.baselines import _features

    samples = noise(0)
    with pytest.warns(DeprecationWarning, match="row_stack"):
        known = FeatureRep().fit_transform(np.stack(samples.x).astype(np.float64))
    assert np.array_equal(_features(samples), known)


def test_unequal_lengths_are_refused() -> None:
    ragged = Samples(x=[np.ones((3, 1)), np.ones((4, 1))], y=np.array([0, 1]), classes=("a", "b"))
    with pytest.raises(Refusal, match=r"lengths \[3, 4\].*windows"):
        random_forest(Split(ragged, ragged), seed=0)
