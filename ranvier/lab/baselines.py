"""What stands beside a recipe's network: classical classifiers and artificial networks of equal size."""

import numpy as np
import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.data.samples import Samples, Split
from ranvier.lab.recipe import Scores


def random_forest(split: Split, seed: int, trees: int = 200) -> Scores:
    """A random forest on seglearn's base features: mean, spread, extremes, shape, energy and crossings of each channel.

    Input: windows of one length, [T, C] each. Output: class probabilities [test windows, classes].
    Raises: Refusal for windows of unequal lengths.
    Source: D. Burns and C. Whyne 2018, Seglearn: the features its `FeatureRep` takes by default. Its `all_features` do
    no better on the smartwatch, and the geometric and harmonic means among them are NaN for signals of either sign.

    >>> move = np.random.default_rng(0).normal(size=(20, 3))
    >>> rest = move / 10
    >>> a = Samples(x=[rest, move] * 4, y=np.array([0, 1] * 4), classes=("rest", "move"))
    >>> random_forest(Split(a, a.take([0, 1])), seed=0, trees=10).argmax(1)
    tensor([0, 1])
    """
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(n_estimators=trees, random_state=seed, n_jobs=1)
    forest.fit(_features(split.train), split.train.y)
    scores = torch.zeros(len(split.test), len(split.train.classes))
    # a class that no training window has keeps probability 0
    scores[:, forest.classes_] = torch.from_numpy(forest.predict_proba(_features(split.test))).float()
    return scores


def _features(samples: Samples) -> np.ndarray:
    # as FeatureRep.transform does; its fit calls np.row_stack, which NumPy is about to remove
    from seglearn.feature_functions import base_features

    lengths = {len(x) for x in samples.x}
    if len(lengths) != 1:
        raise Refusal(
            "random_forest",
            expected="windows of one length",
            got=f"lengths {sorted(lengths)[:5]}",
            do="Cut them first: ranvier.data.samples.windows(samples, length).",
        )
    x = np.stack(samples.x).astype(np.float64)
    return np.column_stack([feature(x) for feature in base_features().values()])


class GRUClassifier(nn.Module):
    """Two layers of gated recurrent units over [T, B, inputs]; the mean over time gives the scores [B, classes].

    >>> GRUClassifier(6, 36, 7)(torch.zeros(10, 2, 6)).shape
    torch.Size([2, 7])
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(inputs, width, num_layers=2, dropout=0.1), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(self.gru(x)[0].mean(0))
        return scores


class CNNClassifier(nn.Module):
    """Three convolutions over the time of [T, B, inputs]; the mean over time gives the scores [B, classes].

    >>> CNNClassifier(6, 34, 7)(torch.zeros(10, 2, 6)).shape
    torch.Size([2, 7])
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()

        def layer(channels: int) -> nn.Module:
            convolution = nn.Conv1d(channels, width, 5, padding=2)
            return nn.Sequential(convolution, nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))

        self.convolutions = nn.Sequential(layer(inputs), layer(width), nn.MaxPool1d(2), layer(width))
        self.out = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(self.convolutions(x.permute(1, 2, 0)).mean(2))
        return scores
