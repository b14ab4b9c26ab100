import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal

X = torch.randn(3, 2, 4, 5, 5)
NORMS = [
    nn.BatchNorm1d(4),
    nn.BatchNorm2d(4),
    nn.BatchNorm3d(4),
    nn.InstanceNorm2d(4),
    nn.GroupNorm(2, 4),
    nn.SyncBatchNorm(4),
]


class Wrapped(nn.Module):
    """A module of one's own, which folds time itself and calls what it holds `module` as DDP does."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        y = self.module(x.flatten(0, 1))
        return y.reshape(*x.shape[:2], *y.shape[1:])


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_a_norm_over_the_batch_is_refused_by_place_with_the_way_out(norm):
    name = type(norm).__name__
    model = nn.Sequential(nn.Identity(), nn.Sequential(norm, ranvier.LIF()))
    with pytest.raises(Refusal, match=rf"1\.0 \({name}\): expected a norm over features.*ranvier\.Fold\(nn\.{name}"):
        ranvier.run(model, X)


@pytest.mark.parametrize("model", [nn.BatchNorm1d(4), nn.Flatten(1)])
def test_a_trap_that_is_the_model_itself_is_refused(model):
    with pytest.raises(Refusal, match=rf"model \({type(model).__name__}\)"):
        ranvier.run(model, X)


@pytest.mark.parametrize("start", [0, 1])
def test_a_flatten_that_merges_the_batch_is_refused_by_place(start):
    with pytest.raises(Refusal, match=r"1 \(Flatten\): expected start_dim of 2 or more; got start_dim=\d"):
        ranvier.run(nn.Sequential(ranvier.LIF(), nn.Flatten(start)), X)


@pytest.mark.parametrize("wrap", [torch.compile, torch.optim.swa_utils.AveragedModel], ids=["compile", "AveragedModel"])
def test_traps_are_found_through_wrappers(wrap):
    with pytest.raises(Refusal, match=r"0 \(BatchNorm1d\)"):
        ranvier.run(wrap(nn.Sequential(nn.BatchNorm1d(4), ranvier.LIF())), torch.randn(3, 2, 4))


@pytest.mark.parametrize(
    "safe",
    [
        ranvier.Fold(nn.BatchNorm2d(4)),
        ranvier.Fold(nn.Flatten(), nn.BatchNorm1d(100)),
        Wrapped(nn.BatchNorm2d(4)),
        Wrapped(nn.Sequential(nn.Flatten(1))),
        nn.Flatten(2),
        nn.LayerNorm(5),
    ],
    ids=["fold", "fold flatten", "own", "own flatten", "flatten features", "layer norm"],
)
def test_what_keeps_time_and_batch_apart_runs(safe):
    y, state = ranvier.run(nn.Sequential(safe, ranvier.LIF()), X)
    assert y.shape[:2] == (3, 2) and list(state) == ["1.v"]


@pytest.mark.parametrize("nested", [False, True])
def test_after_a_decoder_time_is_over_and_nothing_is_a_trap(nested):
    head = [nn.Flatten(), nn.BatchNorm1d(100)]
    body = [ranvier.LIF(), ranvier.RateDecoder()]
    model = nn.Sequential(nn.Sequential(*body), *head) if nested else nn.Sequential(*body, *head)
    assert ranvier.run(model, X)[0].shape == (2, 100)
