from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import ranvier
from ranvier.data.recording import Recording
from ranvier.data.sets.motor_cortex import MotorCortex
from ranvier.lab.decode import Decode
from ranvier.lab.recipe import Claim, Recipe

HISTORY = 10  # bins of 50 ms that the ridge regression sees
DELAYS = [0, 1, 2, 3, 4, 6, 8]
VELOCITY = [2, 3]


def reaching(lr: float = 5e-3, epochs: int = 20, batch: int = 32, width: int = 128, smoke: bool = False) -> Recipe:
    """The velocity of a reaching hand, decoded from the spike counts of 95 channels of motor cortex, bin by bin.

    One layer of LIF neurons behind delays of up to 8 bins (0.4 s), and leaky integrators that read them out; trained on
    stretches of 5 s of the first 80 % of the recording, judged on the last 20 % in one pass of 5 min. Beside it: ridge
    regression on the last 10 bins, and a GRU of equal size trained the same way. The network was chosen on the last fifth
    of the training part.
    """
    part = MotorCortex().smoke if smoke else MotorCortex().load

    def recordings(fold: int) -> tuple[Recording, Recording]:
        train, test = (part(split) for split in ("train", "test"))
        return _velocity(train), _velocity(test)

    return Recipe(
        model=partial(_network, width),
        data=recordings,
        fit=Decode(
            epochs=2 if smoke else epochs,
            batch=4 if smoke else batch,
            learning_rate=lr,
            steps=50 if smoke else 100,
            skip=10,
            weight_decay=0.02,
            warmup=0.15,
            repeats=2,
            networks={} if smoke else {"GRU of equal size": partial(_GRU, 125)},
            baselines={"ridge regression": _ridge},
        ),
        claims=(Claim("R2", ">=", -10.0, "smoke size: it runs"),)
        if smoke
        else (Claim("R2", ">=", -0.03, "our own target", beside="ridge regression: R2"),),
        source="course data of BME 517, University of Michigan (data); network of our own",
        seeds=(0,) if smoke else (0, 1, 2),
    )


def _velocity(recording: Recording) -> Recording:
    return replace(recording, y=recording.y[:, VELOCITY], targets=tuple(recording.targets[i] for i in VELOCITY))


def _network(width: int) -> nn.Module:
    norm = nn.BatchNorm1d(width)
    nn.init.constant_(norm.weight, 2.0)  # currents that pass the threshold often enough to learn from
    tau = nn.Parameter(torch.empty(width).uniform_(1.5, 8.0))
    return nn.Sequential(
        ranvier.DelayLine(DELAYS),
        nn.Dropout(0.05),
        ranvier.Linear(95 * len(DELAYS), width, bias=False),
        ranvier.Fold(norm),
        ranvier.LIF(tau=tau, reset_mode="subtract", discretisation="exact"),
        nn.Dropout(0.1),
        ranvier.Linear(width, len(VELOCITY)),
        ranvier.LeakyIntegrator(tau=nn.Parameter(torch.full((len(VELOCITY),), 3.0)), discretisation="exact"),
        ranvier.Scale(5.0),
    )


class _GRU(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru, self.readout = nn.GRU(95, width), nn.Linear(width, len(VELOCITY))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.readout(self.gru(x)[0])
        return y


def _ridge(train: Recording, test: Recording) -> np.ndarray:
    from sklearn.linear_model import Ridge

    def history(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((HISTORY - 1, 0), (0, 0)))
        return np.lib.stride_tricks.sliding_window_view(padded, HISTORY, axis=0).reshape(len(x), -1)

    found: np.ndarray = Ridge(1.0).fit(history(train.x), train.y).predict(history(test.x)).astype(np.float32)
    return found
