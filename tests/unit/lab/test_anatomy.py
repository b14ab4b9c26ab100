"""Layers, firing rates and synaptic operations against numbers worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.data.samples import Batch, Samples
from ranvier.lab.anatomy import Anatomy, Layer, activity, anatomy, record
from ranvier.nn.coding.direct import Direct
from ranvier.nn.coding.rate import RateDecoder
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.synapses.conv import Conv2d
from ranvier.nn.synapses.recurrent import Recurrent


def batch(x: Tensor, *lengths: int) -> Batch:
    return Batch(x, torch.zeros(x.shape[1], dtype=torch.int64), torch.tensor(lengths or [len(x)] * x.shape[1]))


def ones(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    return layer


def counts(found: Anatomy, name: str) -> tuple[str, float, float]:
    operations = row(found, name).operations
    assert operations is not None
    return operations.kind, operations.dense, operations.effective


def row(found: Anatomy, name: str) -> Layer:
    return next(layer for layer in found.layers if layer.name == name)


def test_a_linear_layer_costs_its_fan_out_for_every_input_that_is_not_0() -> None:
    x = torch.zeros(4, 2, 3)
    x[0, 0, 0] = x[1, 0, 1] = x[3, 1, 2] = 1.0
    found = anatomy(ones(nn.Linear(3, 5)), batch(x))
    # 4 steps x 3 inputs x 5 outputs; 3 spikes in 2 samples x 5 outputs
    assert counts(found, "") == ("AC", 60.0, 7.5)


@pytest.mark.parametrize(("values", "kind", "said"), [((0, 1), "AC", "0, 1"), ((-1, 1), "AC", "-1, 0, 1"), ((0, 0.5), "MAC", "real"), ((0, 2), "MAC", "real")])  # fmt: skip
def test_only_spikes_are_accumulated(values: tuple[float, float], kind: str, said: str) -> None:
    found = anatomy(nn.Linear(2, 1), batch(torch.tensor(values, dtype=torch.float32).reshape(1, 1, 2)))
    operations = found.layers[0].operations
    assert operations is not None and (operations.kind, operations.values) == (kind, said)
    assert operations.effective == np.count_nonzero(values)


def test_one_real_input_anywhere_makes_the_layer_multiply() -> None:
    x = torch.ones(5, 3, 2)
    x[2, 1, 0] = 0.3
    assert counts(anatomy(nn.Linear(2, 1), batch(x, 5, 4, 5)), "")[0] == "MAC"


def test_pruned_weights_are_not_effective() -> None:
    layer = nn.Linear(2, 3, bias=False)
    layer.weight.data = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert counts(anatomy(layer, batch(torch.ones(1, 1, 2))), "") == ("AC", 6.0, 3.0)


def test_a_padded_convolution_costs_less_at_its_edges() -> None:
    x = torch.zeros(1, 1, 1, 4, 4)
    x[..., 0, 0] = 1.0  # a corner reaches 2 x 2 outputs of 3 x 3
    x[..., 1, 1] = 1.0  # the middle reaches all of 3 x 3
    found = anatomy(ones(ranvier.Fold(nn.Conv2d(1, 2, 3, padding=1))), batch(x))
    # along one axis 4 outputs meet 2, 3, 3, 2 inputs: 10 x 10 pairs, 2 channels
    assert counts(found, "inner") == ("AC", 200.0, 2 * (4 + 9))


def test_a_strided_grouped_convolution_is_counted_as_what_it_connects() -> None:
    x = torch.zeros(2, 1, 4, 6)
    x[0, 0, 1, 0] = 1.0  # group 0: only the output at 0 sees input 0
    x[1, 0, 2, 2] = 1.0  # group 1: outputs at 0 and 2 see input 2
    layer = ones(nn.Conv1d(4, 6, 3, stride=2, groups=2))
    found = anatomy(ranvier.Fold(layer), batch(x))
    # per step: 2 positions x 6 outputs x (2 channels of the group x 3 taps)
    assert counts(found, "inner") == ("AC", 2 * 72.0, 3 * 1 + 3 * 2)


def test_dilation_and_reflected_borders_are_honoured() -> None:
    x = torch.zeros(1, 1, 1, 5)
    x[..., 4] = 1.0
    assert counts(anatomy(ranvier.Fold(ones(nn.Conv1d(1, 1, 2, dilation=3))), batch(x)), "inner") == ("AC", 4.0, 1.0)
    circular = ones(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"))
    assert counts(anatomy(ranvier.Fold(circular), batch(x)), "inner") == ("AC", 15.0, 3.0)


def test_counts_are_those_of_a_convolution_of_masks() -> None:
    torch.manual_seed(0)
    x = (torch.rand(3, 2, 4, 9, 7) < 0.2).float()
    layer = Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(0, 1), groups=2, bias=True)
    mask = nn.functional.conv2d(x.flatten(0, 1), torch.ones_like(layer.weight), None, (2, 1), (0, 1), 1, 2)
    assert counts(anatomy(layer, batch(x)), "")[2] == float(mask.sum()) / 2


def test_a_recurrent_synapse_is_counted_at_every_step_from_the_spikes_before() -> None:
    synapse = nn.Linear(2, 2, bias=False)
    nn.init.constant_(synapse.weight, 1e-9)
    x = torch.tensor([[9.0, 0.0], [9.0, 9.0], [0.0, 0.0]]).reshape(3, 1, 2)
    found = anatomy(Recurrent(ranvier.LIF(tau=1.0), synapse), batch(x))
    assert row(found, "").rate == 0.5 and row(found, "").kind == "Recurrent(LIF)"
    # 1 spike after step 0 and 2 after step 1 reach 2 neurons each; what fires last reaches nobody in time
    assert counts(found, "synapse") == ("AC", 12.0, 6.0)
    assert row(found, "synapse").shape == (2,)


def test_steps_past_a_sequences_end_count_nowhere() -> None:
    x = torch.ones(5, 2, 3)
    model = nn.Sequential(ones(nn.Linear(3, 2)), ranvier.LIF(tau=1.0), RateDecoder(), nn.Linear(2, 2))
    found = anatomy(model, batch(x, 5, 2))
    assert counts(found, "0") == ("AC", 6 * 7 / 2, 6 * 7 / 2)
    assert row(found, "1").rate == 1.0 and row(found, "1").silent == 0.0
    assert (row(found, "3").shape, row(found, "3").per, counts(found, "3")[1]) == ((2,), "sample", 4.0)


def test_the_rate_is_spikes_per_neuron_and_step() -> None:
    x = torch.zeros(4, 2, 3)
    x[:, 0, 0] = x[1, 1, 1] = 9.0
    found = anatomy(ranvier.LIF(), batch(x, 4, 2))
    assert found.layers[0].rate == pytest.approx(5 / (6 * 3))
    assert found.layers[0].silent == pytest.approx(1 / 3)


def test_every_parameter_is_in_one_row() -> None:
    tau = nn.Parameter(torch.tensor([2.0, 3.0]))
    synapse = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), Recurrent(ranvier.LIF(tau=tau), synapse))
    found = anatomy(model, batch(torch.ones(3, 1, 3)))
    assert {layer.name: layer.parameters for layer in found.layers} == {"0": 8, "1": 4, "2": 2, "2.synapse": 8}


def test_a_wrapper_leaves_no_trace_in_the_names() -> None:
    model = torch.optim.swa_utils.AveragedModel(nn.Sequential(nn.Linear(2, 2), ranvier.LIF()))
    found = anatomy(model, batch(torch.full((3, 1, 2), 9.0)))
    assert [layer.name for layer in found.layers] == ["0", "1"] and row(found, "1").rate is not None


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(-1, -2)) @ (x @ self.scale)


class Borrowing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.layer.weight)


def test_what_is_not_counted_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), ranvier.LIF(), Attention(), Borrowing(), nn.Flatten(2))
    why = {(part.name, part.why) for part in anatomy(model, batch(torch.ones(3, 4, 2))).not_counted}
    assert why == {
        ("1", "normalisation"),
        ("2", "neuron updates"),
        ("3", "weights in a module that is neither Linear nor Conv"),
        ("3", "matrix products that it calls itself (2 x bmm, 1 x mm)"),
        ("4.layer", "weights used without calling the layer"),
        ("4", "matrix products that it calls itself (1 x mm)"),
    }


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(ranvier.Fold(nn.Linear(2, 2), nn.BatchNorm1d(2)), ranvier.LIF()).train()
    model.get_submodule("0.inner.1").eval()
    anatomy(model, batch(torch.ones(3, 4, 2)))
    assert [m.training for m in model.modules()] == [True, True, True, True, False, True]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("lengths", [(0, 3), (4, 1), (3,)])
def test_lengths_that_do_not_fit_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(Refusal, match="lengths"):
        anatomy(nn.Linear(2, 2), batch(torch.ones(3, 2, 2), *lengths))


class Quiet(Neuron):
    def step(self, x: Tensor) -> tuple[Tensor]:
        return (self.spike(x - 1),)


def test_activity_is_what_the_layers_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 300), ranvier.LIF(threshold=0.2), nn.Linear(300, 3), ranvier.LeakyIntegrator())
    x = [np.random.default_rng(i).normal(size=(n, 2)).astype("float32") for i, n in enumerate((7, 4))]
    samples = Samples(x, np.array([0, 2]), ("a", "b", "c"), channels=("left", "right"), rate=50.0)
    examples = record(nn.Sequential(*model, RateDecoder()), samples, tmp_path / "activity.safetensors")
    first, second = activity.read(tmp_path / "activity.safetensors")
    assert [e["true"] for e in examples] == ["a", "c"] and [e["steps"] for e in examples] == [7, 4]
    assert (first.rate, first.channels) == (50.0, ["left", "right"])
    np.testing.assert_array_equal(second.input.values, x[1])
    _, _, whole = ranvier.run(model, torch.tensor(x[0])[:, None], record=("spikes", "v"))
    spikes, hidden, readout = first.layers
    assert (spikes.layer, spikes.kind, spikes.neurons, len(spikes.index)) == ("1", "LIF", 300, 128)
    torch.testing.assert_close(spikes.values.float(), whole["1.spikes"][:, 0, spikes.index])
    torch.testing.assert_close(hidden.values, whole["1.v"][:, 0, hidden.index])
    assert hidden.threshold is not None and hidden.threshold.tolist() == pytest.approx([0.2] * 3)
    assert readout.index == [0, 1, 2] and readout.threshold is None


def test_neurons_without_membrane_have_no_trace(tmp_path: Path) -> None:
    samples = Samples([np.ones((2, 1), "float32")], np.array([0]), ("a",))
    examples = record(Quiet(), samples, tmp_path / "a.safetensors")
    (seen,) = activity.read(tmp_path / "a.safetensors")
    (spikes,) = seen.layers
    assert spikes.what == "spikes" and spikes.values.tolist() == [[1], [1]]
    assert examples[0]["predicted"] is None


def test_steps_that_an_encoder_makes_have_no_rate(tmp_path: Path) -> None:
    samples = Samples([np.ones((1, 2), "float32")], np.array([0]), ("a",), rate=50.0)
    record(nn.Sequential(Direct(4), ranvier.LIF()), samples, tmp_path / "a.safetensors")
    (seen,) = activity.read(tmp_path / "a.safetensors")
    assert seen.rate is None and [len(t.values) for t in (seen.input, *seen.layers)] == [1, 4, 4]


def test_another_file_is_refused(tmp_path: Path) -> None:
    ranvier.save({"0/input": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(Refusal, match=r"a\.safetensors"):
        activity.read(tmp_path / "a.safetensors")
