"""Sparse synapses train on their pattern alone, keep their signs where told, and refuse patterns that are none."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.data.connectome import Connectome
from ranvier.data.sets.larval_drosophila import LarvalDrosophila
from ranvier.nn.synapses.sparse import SparseLinear


def dense(layer):
    row = torch.arange(layer.out_features).repeat_interleave(layer.pointer.diff())
    return torch.zeros(layer.out_features, layer.in_features).index_put((row, layer.index.long()), layer.weight)


def test_it_is_the_matrix_with_zeros_and_trains_on_its_pattern_alone():
    weight = torch.randn(30, 50) * (torch.rand(30, 50) < 0.2)
    layer = SparseLinear.from_dense(weight)
    assert torch.equal(dense(layer), weight)
    x = torch.randn(5, 4, 50)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        torch.testing.assert_close(layer(x), nn.functional.linear(x, dense(layer), layer.bias), rtol=1e-5, atol=1e-5)
        layer(x).square().mean().backward()
        optimiser.step()
    after = dense(layer)
    assert ((after != 0) == (weight != 0)).all() and not torch.equal(after, weight)
    assert layer.values.numel() == (weight != 0).sum()


def test_a_mask_draws_values_as_torchs_linear_does():
    mask = torch.ones(20, 100, dtype=torch.bool)
    layer = SparseLinear.from_dense(mask, bias=False)
    assert layer.bias is None and layer.values.abs().max() <= 0.1 and layer.values.std() > 0.05
    assert SparseLinear([0, 0], [], 3)(torch.ones(1, 1, 3)).tolist() == [[[0.0]]]


def test_with_dale_signs_stay():
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    weight = torch.rand(6, 4) * signs * (torch.rand(6, 4) < 0.8)
    layer = SparseLinear.from_dense(weight, dale=True)
    assert torch.equal(dense(layer), weight)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    for _ in range(20):
        optimiser.zero_grad()
        (layer(torch.rand(5, 4, 4)) * torch.randn(6)).sum().backward()
        optimiser.step()
    after = dense(layer)
    assert (after * signs >= 0).all() and not torch.equal(after, weight)
    with pytest.raises(Refusal, match=r"SparseLinear.values: expected one sign .*got both signs from neuron 1 and 0"):
        SparseLinear.from_dense(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), dale=True)


def test_a_connectome_becomes_its_synapses():
    wiring = Connectome(np.array([0, 0, 2, 2]), np.array([1, 2, 1, 1]), np.array([3, 1, 2, 5]), ("A", "B", "C"))
    layer = SparseLinear.from_connectome(wiring, signs=[1.0, 1.0, -1.0], scale=0.5, bias=False, dale=True)
    assert dense(layer).tolist() == [[0, 0, 0], [1.5, 0, -3.5], [0.5, 0, 0]]
    x = torch.tensor([[[2.0, 0.0, 1.0]]])
    assert layer(x).tolist() == [[[0.0, -0.5, 1.0]]]
    with pytest.raises(Refusal, match=r"SparseLinear\.signs: expected 3"):
        SparseLinear.from_connectome(wiring, signs=[1.0])


def test_a_fly_larvas_brain_runs(where_it_is):
    brain = where_it_is(lambda: LarvalDrosophila().load("all"))
    layer = SparseLinear.from_connectome(brain, scale=0.01)
    y = layer(torch.rand(2, 3, len(brain)))
    assert y.shape == (2, 3, 3591) and len(layer.values) == brain.matrix().nnz > 100_000


def test_inside_a_recurrent_layer_chunks_are_the_whole():
    layer = ranvier.Recurrent(ranvier.LIF(), SparseLinear.from_dense(torch.rand(8, 8) * (torch.rand(8, 8) < 0.5)))
    x = 2 * torch.rand(9, 2, 8)
    whole, _ = ranvier.run(layer, x)
    first, state = ranvier.run(layer, x[:4])
    second, _ = ranvier.run(layer, x[4:], state)
    assert torch.equal(torch.cat([first, second]), whole) and whole.any()


def test_it_is_saved_loaded_copied_and_moved_with_its_pattern():
    a, b = (SparseLinear.from_dense(torch.eye(4).roll(k, 0)) for k in (0, 1))
    x = torch.rand(1, 1, 4)
    assert list(a.state_dict()) == ["values", "bias", "pointer", "index"]
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x)) and torch.equal(copy.deepcopy(a)(x), a(x))
    leaf = x.clone().requires_grad_()
    b(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.ones(1, 1, 4))
    assert a.double()(x.double()).dtype == torch.float64
    compiled = torch.compile(b, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), b(x))


@pytest.mark.parametrize(
    ("pointer", "index", "text"),
    [
        (
            [0, 2, 3],
            [1, 0, 1],
            r"index: expected each neuron's inputs in rising order, each once; got 1 before 0 at neuron 0",
        ),
        ([0, 2, 3], [1, 1, 1], r"index: expected .*got 1 twice at neuron 0\. Call sum_duplicates"),
        ([0, 1, 3], [1, 0, 3], r"index: expected inputs from 0 to 2; got 3 at synapse 2"),
        ([0, 1, 3], [1, -1, 2], r"index: expected inputs from 0 to 2; got -1 at synapse 1"),
        ([0, 2, 1, 3], [1, 2, 1], r"pointer: expected numbers that never fall; got 2 before 1 at neuron 1"),
        ([1, 3], [1, 2, 1], r"pointer: expected where each neuron's synapses begin, from 0 to 3"),
        ([0, 2], [1, 2, 1], r"pointer: expected where"),
        ([0, 1], [0.5], r"index: expected whole numbers \[synapses\]"),
    ],
)
def test_a_pattern_that_is_none_is_refused_by_name(pointer, index, text):
    with pytest.raises(Refusal, match=r"SparseLinear\." + text):
        SparseLinear(pointer, index, 3)


def test_other_refusals():
    with pytest.raises(Refusal, match=r"SparseLinear.values: expected 1 floating-point numbers.*got .*\(2,\)"):
        SparseLinear([0, 1], [0], 3, [1.0, 2.0])
    with pytest.raises(Refusal, match=r"SparseLinear: expected \[T, B, \.\.\., 3\], time first"):
        SparseLinear([0, 1], [0], 3)(torch.zeros(2, 3))
    with pytest.raises(Refusal, match=r"SparseLinear: expected a matrix \[out, in\]"):
        SparseLinear.from_dense(torch.zeros(3))
