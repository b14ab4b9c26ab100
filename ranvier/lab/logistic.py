"""Logistic regression on what a recording is on the whole: the least that any network has to beat."""

import numpy as np
import torch

from ranvier.data.samples import Samples, Split
from ranvier.lab.recipe import Scores


def logistic_regression(split: Split, seed: int) -> Scores:
    """Logistic regression on the mean over time of each feature, and on its spread.

    Output: class probabilities [test samples, classes]; 0 for a class that no training sample has.

    >>> move = np.random.default_rng(0).normal(size=(20, 3))
    >>> a = Samples(x=[move / 10, move] * 4, y=np.array([0, 1] * 4), classes=("rest", "move"))
    >>> logistic_regression(Split(a, a.take([0, 1])), seed=0).argmax(1)
    tensor([0, 1])
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
    model.fit(_features(split.train), split.train.y)
    scores = torch.zeros(len(split.test), len(split.train.classes))
    scores[:, model.classes_] = torch.from_numpy(model.predict_proba(_features(split.test))).float()
    return scores


def _features(samples: Samples) -> np.ndarray:
    return np.stack([np.concatenate([x.mean(0).ravel(), x.std(0).ravel()]) for x in samples.x])
