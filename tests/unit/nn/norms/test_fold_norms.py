"""Folded models: no norms are left, and spikes are the same outside ties."""

import copy

import pytest
import torch
from torch import nn

import ranvier
from ranvier.nn.norms.batch_norm import BatchNorm
from ranvier.nn.norms.fold_norms import fold_norms
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.norm import Norm
from ranvier.nn.norms.normalised import Normalised
from ranvier.nn.norms.polarised import Polarised
from ranvier.nn.norms.temporal_batch_norm import TemporalBatchNorm
from ranvier.nn.norms.threshold_batch_norm import ThresholdBatchNorm


def moved(model):
    """Every norm as after training: no statistic or weight is where it began."""
    for module in model.modules():
        if isinstance(module, Norm | nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                module.running_mean.uniform_(-0.3, 0.5)
                module.running_var.uniform_(0.3, 2.0)
                if module.weight is not None:
                    module.weight.uniform_(0.5, 2.0)
                    module.bias.uniform_(-0.3, 0.6)
    return model


def mismatch(model, x):
    """The share of spikes that differ between a model in evaluation and its folded copy."""
    folded = fold_norms(model)
    kinds = (Norm, TemporalBatchNorm, Normalised, nn.modules.batchnorm._BatchNorm)
    assert not any(isinstance(m, kinds) for m in folded.modules())
    assert not any("running" in name for name in folded.state_dict())
    y, z = model.eval()(x), folded(x)
    assert 0.02 < y.mean() < 0.98
    return (y != z).double().mean().item()


def conv(norm, **options):
    return nn.Sequential(
        ranvier.Conv2d(2, 8, 3, padding=1, bias=False),
        norm(8),
        ranvier.LIF(threshold=0.5),
        ranvier.Conv2d(8, 8, 3, groups=2, padding=1, padding_mode="circular"),
        Normalised(BatchNorm(8), ranvier.LIF(threshold=0.5), **options),
    )


PICTURES = torch.randn(6, 16, 2, 8, 8)
MODELS = {
    "linear": lambda: nn.Sequential(ranvier.Linear(5, 40), Normalised(BatchNorm(40), ranvier.LIF(threshold=0.5))),
    "plain": lambda: nn.Sequential(nn.Linear(5, 40, bias=False), nn.Dropout(), BatchNorm(40, affine=False), ranvier.IF()),
    "tdbn": lambda: nn.Sequential(nn.Linear(5, 40), ThresholdBatchNorm(40, threshold=0.5), ranvier.LIF(threshold=0.5)),
    "conv": lambda: conv(BatchNorm),
    "fold": lambda: conv(lambda c: ranvier.Fold(nn.BatchNorm2d(c))),
    "fold of both": lambda: nn.Sequential(ranvier.Fold(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, affine=False)), ranvier.LIF(threshold=0.5)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Sequential(ranvier.Conv2d(2, 8, 3)), nn.Sequential(BatchNorm(8))), ranvier.IF()),
    "repeated": lambda: nn.Sequential(ranvier.Conv2d(2, 8, 3), ranvier.Direct(3), Normalised(BatchNorm(8), ranvier.IF())),
    "membrane": lambda: conv(BatchNorm, membrane=MembraneBatchNorm(8)),
    "membrane of each": lambda: conv(BatchNorm, membrane=MembraneBatchNorm((8, 8, 8))),
    "membrane alone": lambda: nn.Sequential(ranvier.Linear(5, 40), ranvier.Linear(40, 40), Normalised(None, ranvier.LIF(threshold=0.5), membrane=MembraneBatchNorm(40))),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_folded_model_gives_the_same_spikes(name, dtype):
    model = moved(MODELS[name]()).to(dtype)
    x = (torch.randn(6, 32, 5) if isinstance(model[0], nn.Linear) else PICTURES).to(dtype)
    x = x[:1] if name == "repeated" else x
    before = {k: v.clone() for k, v in model.state_dict().items()}
    # in float32 a membrane may lie within rounding of its threshold, and spikes travel on
    assert mismatch(model, x) <= (0.0 if dtype == torch.float64 else 2e-4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()), "the model itself is left as it was"


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("neuron", [ranvier.LIF, ranvier.CuBaLIF, ranvier.IF, ranvier.ComplementaryLIF])
@pytest.mark.parametrize("features", [6, (6, 4, 3)], ids=["channel", "element"])
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_a_membrane_norm_becomes_thresholds_whatever_the_sign_of_its_weight(reset, neuron, features, backend):
    layer = moved(Normalised(None, neuron(reset_mode=reset), membrane=MembraneBatchNorm(features))).double().eval()
    with torch.no_grad():
        layer.membrane.weight[1::3] *= -1
        layer.membrane.weight[2::3] = 0.0
        layer.membrane.bias[2], layer.membrane.bias[5] = 2.0, 0.5  # which fires always, and never
    x = 2 * torch.randn(50, 7, 6, 4, 3, dtype=torch.float64)
    folded = fold_norms(layer)
    assert isinstance(folded, Polarised) and folded.threshold.shape == layer.membrane.features
    with ranvier.backend(backend):
        (y, end), (z, other) = ranvier.run(layer, x), ranvier.run(folded, x)
    assert torch.equal(y, z) and all(torch.allclose(end[k], other[k]) for k in end)
    assert y[:, :, 2].all() and not y[:, :, 5].any()
    assert all(0.001 < y[:, :, c].mean() < 0.999 for c in (0, 1, 3, 4))
    # the same in float32, where a tie may be decided otherwise
    layer = layer.float()
    a, b = layer(x.float()), fold_norms(layer)(x.float())
    assert (a != b).double().mean() < 1e-4


def test_thresholds_are_those_of_the_card():
    layer = Normalised(None, ranvier.IF(threshold=0.5), membrane=MembraneBatchNorm(2)).eval()
    with torch.no_grad():
        layer.membrane.running_mean.copy_(torch.tensor([0.1, 0.2]))
        layer.membrane.running_var.copy_(torch.tensor([4.0, 9.0]))
        layer.membrane.weight.copy_(torch.tensor([2.0, -3.0]))
        layer.membrane.bias.copy_(torch.tensor([0.25, 0.75]))
    folded = fold_norms(layer)
    assert torch.allclose(folded.threshold, torch.tensor([0.1 + 0.25 * 2 / 2, 0.2 + -0.25 * 3 / -3]), atol=1e-5)
    assert folded.polarity.tolist() == [1.0, -1.0]
    assert "1 of them downward" in repr(folded)


@pytest.mark.parametrize("space", [(), (3, 3)], ids=["linear", "conv"])
def test_the_neurons_own_threshold_takes_it_where_that_is_possible(space):
    synapse = ranvier.Conv2d(2, 4, 1) if space else ranvier.Linear(2, 4)
    model = nn.Sequential(synapse, Normalised(BatchNorm(4), ranvier.LIF(), membrane=MembraneBatchNorm(4))).eval()
    folded = fold_norms(model)
    assert type(folded[1]) is ranvier.LIF and folded[1].threshold.shape == (4, *[1] * len(space))
    x = 3 * torch.randn(20, 5, 2, *space)
    assert (folded(x) != model(x)).double().mean() < 1e-3
    # not where a membrane would fire below what the neuron's bounds allow, downward, or be lowered by the threshold
    for change in (lambda m: m[1].membrane.bias.data.fill_(2.0), lambda m: m[1].membrane.weight.data.neg_()):
        other = copy.deepcopy(model)
        change(other)
        assert isinstance(fold_norms(other)[1], Polarised)
    model[1].neuron.reset_mode = "subtract"
    assert isinstance(fold_norms(model)[1], Polarised)


def test_a_learnt_threshold_for_each_channel_is_folded_too():
    neuron = ranvier.LIF(threshold=nn.Parameter(torch.tensor([0.5, 1.0, 2.0]).reshape(3, 1, 1)))
    layer = moved(Normalised(None, neuron, membrane=MembraneBatchNorm(3))).eval()
    x = torch.randn(20, 5, 3, 4, 4)
    assert (fold_norms(layer)(x) != layer(x)).double().mean() < 1e-3
    each = ranvier.LIF(threshold=torch.rand(3, 4, 4) + 0.5)
    with pytest.raises(
        ranvier.Refusal, match=r"model \(MembraneBatchNorm\): expected a neuron with one threshold, or one for"
    ):
        fold_norms(Normalised(None, each, membrane=MembraneBatchNorm(3)))


def test_names_of_what_stays_are_kept_so_that_states_fit():
    model = moved(conv(BatchNorm)).eval()
    folded = fold_norms(model)
    assert [name for name, _ in folded.named_children()] == ["0", "2", "3", "4"]
    _, state = ranvier.run(folded, PICTURES)
    assert set(state) == {"2.v", "4.v"}


def test_a_module_of_ones_own_has_its_parts_folded():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Sequential(ranvier.Conv2d(2, 2, 3, padding=1), Normalised(BatchNorm(2), ranvier.IF()))

        def forward(self, x):
            return x + self.main(x)

    model = moved(nn.Sequential(Block())).double().eval()
    x = PICTURES.double()
    folded = fold_norms(model)
    assert torch.equal(folded(x), model(x)) and type(folded[0].main[1]) is ranvier.IF


def shared():
    synapse = ranvier.Linear(4, 4)
    return nn.Sequential(synapse, BatchNorm(4), ranvier.LIF(), synapse, BatchNorm(4))


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.synapse, self.norm = ranvier.Linear(4, 4), BatchNorm(4)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (BatchNorm(4), r"model \(BatchNorm\): expected Linear or Conv right in front of it, in one nn.Sequential; got none"),
        (nn.Sequential(ranvier.Linear(4, 4), ranvier.LIF(), BatchNorm(4)), r"2 \(BatchNorm\): expected Linear or Conv"),
        (nn.Sequential(ranvier.Conv2d(1, 4, 1), ranvier.MaxPool2d(2), BatchNorm(4)), r"2 \(BatchNorm\): expected Linear or"),
        (nn.Sequential(nn.Sequential(Normalised(BatchNorm(4), ranvier.LIF()))), r"0\.0\.norm \(BatchNorm\): expected Linear"),
        (nn.Sequential(ranvier.Linear(4, 4), TemporalBatchNorm(4, steps=2)), r"1 \(TemporalBatchNorm\): expected a norm with"),
        (nn.Sequential(ranvier.Linear(4, 4), MembraneBatchNorm(4)), r"1 \(MembraneBatchNorm\): expected a norm with one line"),
        (nn.Sequential(ranvier.Linear(4, 5), BatchNorm(4)), r"1 \(BatchNorm\): expected 4 outputs of Linear .*; got 5"),
        (shared(), r"1 \(BatchNorm\): expected Linear in front of it with a weight of its own; got one that is used in several"),
        (Loose(), r"norm \(BatchNorm\): expected Linear or Conv right in front of it"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), BatchNorm(4)),
            r"1 \(BatchNorm\): expected .* with a weight of its own; got a parametrised one",
        ),
        (
            nn.Sequential(nn.Linear(4, 4), ranvier.Fold(nn.BatchNorm1d(4, track_running_stats=False))),
            r"1\.inner \(BatchNorm1d\): expected running statistics",
        ),
    ],
    ids=lambda v: "" if isinstance(v, str) else type(v).__name__,
)  # fmt: skip
def test_what_cannot_be_folded_is_refused_by_name(model, text):
    with pytest.raises(ranvier.Refusal, match=text):
        fold_norms(model)


def test_nothing_to_fold_is_a_copy():
    model = nn.Sequential(ranvier.Linear(4, 4), ranvier.LIF())
    folded = fold_norms(model)
    assert folded is not model and torch.equal(folded[0].weight, model[0].weight)
    assert isinstance(fold_norms(nn.Sequential()), nn.Module)


# neurons with thresholds of their own


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_polarised_neurons_in_chunks_recorded_and_saved(backend):
    layer = Polarised(ranvier.LIF(tau=3.0), torch.tensor([0.3, -0.4, 0.1]), torch.tensor([1.0, -1.0, 1.0]))
    x = torch.randn(9, 4, 3, 2)
    with ranvier.backend(backend):
        y, end, course = ranvier.run(layer, x, record=("spikes", "v"))
        first, state = ranvier.run(layer, x[:4])
        second, other = ranvier.run(layer, x[4:], state)
    assert torch.equal(torch.cat([first, second]), y) and torch.equal(other["v"], end["v"])
    assert torch.equal(course["spikes"], y) and torch.equal(course["v"][-1], end["v"])
    again = Polarised(ranvier.LIF(tau=3.0), torch.zeros(3), torch.ones(3))
    again.load_state_dict(layer.state_dict())
    with ranvier.backend(backend):
        assert torch.equal(again(x), y)


def test_polarised_neurons_are_the_same_fused_with_gradients():
    layer = Polarised(ranvier.LIF(tau=nn.Parameter(torch.tensor(3.0))), torch.tensor([0.3, -0.4]), torch.tensor([1.0, -1.0])).double()  # fmt: skip
    x, found = torch.randn(20, 4, 2, 3, dtype=torch.float64), []
    for backend in ("fused", "reference"):
        leaf = x.clone().requires_grad_()
        with ranvier.backend(backend):
            y = layer(leaf)
        found.append((y, *torch.autograd.grad((y * x.cos()).sum(), [leaf, layer.neuron.tau])))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Polarised(ranvier.IntegerLIF(), torch.ones(2), torch.ones(2)), r"Polarised\.neuron: expected a neuron whose"),
        (lambda: Polarised(ranvier.LIF(), torch.ones(2), torch.ones(3)), "Polarised: expected threshold and polarity of the same"),
        (lambda: Polarised(ranvier.LIF(), torch.ones(2), 0.5 * torch.ones(2)), r"polarity 1 or -1; got .*\[0\.5, 0\.5\]"),
        (lambda: Polarised(ranvier.LIF(), torch.ones(2), torch.ones(2))(torch.zeros(3, 2, 5)), r"Polarised: expected \[T, B, 2, \.\.\.\]"),
    ],
)  # fmt: skip
def test_polarised_refuses_what_is_not_one_threshold_for_each_channel(make, text):
    with pytest.raises(ranvier.Refusal, match=text):
        make()
