"""A connectome as a fixed core: who is wired to whom stays, and signals take the steps that the wiring asks for."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.data.connectome import Connectome
from ranvier.data.sets.larval_drosophila import LarvalDrosophila
from ranvier.models.bpu import FixedRecurrence, FixedSynapses, Once, bpu, in_pools, shuffled, spectral_radius

F64 = torch.float64


def brain(neurons=12, connections=40, seed=0):
    generator = np.random.default_rng(seed)
    pre, post = generator.integers(neurons, size=(2, connections))
    groups = tuple("sensories" if i % 3 == 0 else "RGNs" if i % 3 == 1 else "KCs" for i in range(neurons))
    names = tuple(map(str, range(neurons)))
    return Connectome(pre=pre, post=post, synapses=generator.integers(1, 9, connections), neurons=names, groups=groups)


def signed(neurons=12):
    return csr_array(
        brain(neurons).matrix().toarray() * np.random.default_rng(1).choice([-0.1, 0.1], (neurons, neurons))
    )


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_fixed_synapses_are_a_dense_product_with_its_gradients(dtype):
    layer, x = FixedSynapses(signed()), torch.randn(3, 2, 12, dtype=dtype, requires_grad=True)
    dense = torch.from_numpy(signed().toarray().astype(np.float32)).to(dtype)
    assert torch.allclose(layer(x), x @ dense, atol=1e-6)
    weight = torch.randn(3, 2, 12, dtype=dtype)
    a, b = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (layer(x), x @ dense))
    assert torch.allclose(a, b, atol=1e-6) and not list(layer.parameters())
    if dtype == F64:
        assert torch.autograd.gradcheck(layer, (x,)) and torch.autograd.gradgradcheck(layer, (x,))


def test_the_recurrence_is_the_pools_equations():
    """S' = relu(S W_ss + I W_is + O W_os + E) and so on, by blocks."""
    matrix, x = signed(), torch.randn(6, 2, 4, dtype=F64)
    w = torch.from_numpy(matrix.toarray().astype(np.float32)).double()
    cut = [slice(0, 4), slice(4, 9), slice(9, 12)]
    pools, expected = [torch.zeros(2, n, dtype=F64) for n in (4, 5, 3)], []
    for x_t in x:
        given = [sum(pools[a] @ w[cut[a], cut[b]] for a in range(3)) for b in range(3)]
        given[0] = given[0] + x_t
        pools = [g.relu() for g in given]
        expected.append(pools[2])
    layer = FixedRecurrence(matrix, 4, 3)
    y, state, recorded = ranvier.run(layer, x, record=("r",))
    assert torch.allclose(y, torch.stack(expected)) and y.any()
    assert torch.allclose(state["r"], torch.cat(pools, 1)) and torch.equal(recorded["r"][-1], state["r"])
    x.requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("sizes", [[9], [4, 5], [1] * 9, [0, 9]])
def test_chunks_are_the_whole(sizes):
    layer, x, state, parts = FixedRecurrence(signed(), 4, 3), torch.randn(9, 2, 4), None, []
    whole, expected = ranvier.run(layer, x)
    for chunk in x.split(sizes):
        y, state = ranvier.run(layer, chunk, state)
        parts.append(y)
    assert torch.equal(torch.cat(parts), whole) and torch.equal(state["r"], expected["r"])


def test_16_bits_keep_their_dtype():
    layer, x = FixedRecurrence(signed(), 4, 3), torch.rand(5, 2, 4).bfloat16()
    y, state = ranvier.run(layer, x)
    assert torch.equal(y, layer(x.float()).bfloat16()) and state["r"].dtype == torch.float32


def test_nothing_of_the_connectome_is_learnt_and_it_stays_to_the_bit():
    net = bpu(brain(), 4, 4, 6, 3, drive="all")
    assert sum(p.numel() for p in net.parameters()) == 4 * 6 + 4 + 4 * 3 + 3
    before = {k: v.clone() for k, v in net.named_buffers()}
    optimiser = torch.optim.SGD(net.parameters(), 0.5)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(torch.rand(1, 8, 6)), torch.arange(8) % 3).backward()
        assert all(p.grad is not None for p in net.parameters())
        optimiser.step()
    assert all(torch.equal(v, net.get_buffer(k)) for k, v in before.items())


def test_signals_reach_the_outputs_after_as_many_steps_as_the_wiring_asks_for():
    """A sensory neuron to an inner one to an output one; the output is silent before the third step."""
    chain = Connectome(pre=np.array([0, 1]), post=np.array([1, 2]), synapses=np.array([2, 3]), neurons=("S", "I", "O"))
    for steps in range(1, 6):
        net = bpu(chain, 1, 1, 4, 2, steps=steps, radius=None, dropout=0.0)
        with torch.no_grad():
            net[1].weight.fill_(1.0)
            net[1].bias.zero_()
        outputs = net[:5](torch.ones(1, 2, 4))[-1]
        assert outputs.flatten().tolist() == ([24.0, 24.0] if steps == 3 else [0.0, 0.0])


def test_the_drive_comes_once_or_stays():
    first, stays = (bpu(brain(), 4, 4, 6, 3, drive=drive, dropout=0.0) for drive in ("first", "all"))
    stays.load_state_dict(first.state_dict())
    x = torch.rand(1, 2, 6)
    assert not torch.equal(first(x), stays(x))
    assert torch.equal(Once(3)(x), torch.cat([x, torch.zeros(2, 2, 6)]))
    with pytest.raises(Refusal, match=r"bpu\.drive: expected 'first' or 'all'; got 'none'"):
        bpu(brain(), 4, 4, 6, 3, drive="none")


def test_the_matrix_is_scaled_to_its_radius_and_signed_by_neuron():
    signs = np.where(np.arange(12) % 2, 1.0, -1.0)
    net = bpu(brain(), 4, 4, 6, 3, radius=0.7, signs=signs)
    core = net[4].synapses
    dense = csr_array((core.out_weights.numpy(), core.out_columns.numpy(), core.out_rows.numpy()), (12, 12)).toarray()
    assert np.abs(np.linalg.eigvals(dense)).max() == pytest.approx(0.7, rel=1e-4)
    assert (np.sign(dense) == np.sign(brain().matrix().toarray()) * signs[:, None]).all()
    assert spectral_radius(csr_array(np.diag([1.0, -3.0, 2.0, 0.5]))) == pytest.approx(3.0)


def test_pools_are_put_in_order():
    ordered, senses, outputs = in_pools(brain())
    assert (senses, outputs) == (4, 4)
    assert ordered.groups == ("sensories",) * 4 + ("KCs",) * 4 + ("RGNs",) * 4
    place = [int(name) for name in ordered.neurons]
    assert np.array_equal(ordered.matrix().toarray(), brain().matrix().toarray()[np.ix_(place, place)])


def test_the_larvas_pools_have_the_published_sizes(where_it_is):
    larva = where_it_is(lambda: LarvalDrosophila().load("all"))
    ordered, senses, outputs = in_pools(larva)
    assert (len(ordered), senses, outputs) == (2952, 430, 218)


def test_shuffles_keep_what_they_say():
    a = brain(40, 300)
    degree, weights, er = (shuffled(a, mode, 1) for mode in ("degree", "weights", "er"))
    assert np.array_equal(degree.pre, a.pre) and np.array_equal(degree.synapses, a.synapses)
    assert np.array_equal(np.sort(degree.post), np.sort(a.post)) and not np.array_equal(degree.post, a.post)
    assert np.array_equal(weights.pre, a.pre) and np.array_equal(weights.post, a.post)
    assert np.array_equal(np.sort(weights.synapses), np.sort(a.synapses))
    assert len(er.pre) == 300 and not np.array_equal(np.sort(er.pre), np.sort(a.pre))
    assert np.array_equal(shuffled(a, "er", 1).pre, er.pre)
    with pytest.raises(Refusal, match=r"shuffled: expected one of .*; got 'degrees'\. Did you mean 'degree'"):
        shuffled(a, "degrees")


def test_what_it_can_not_take_is_refused():
    layer = FixedRecurrence(signed(), 4, 3)
    for bad in (torch.zeros(3, 4), torch.zeros(3, 2, 5)):
        with pytest.raises(Refusal, match=r"FixedRecurrence: expected \[T, B, 4\], time first"):
            layer(bad)
    with pytest.raises(Refusal, match=r"FixedSynapses: expected \[T, B, 12\], time first"):
        FixedSynapses(signed())(torch.zeros(3, 2, 4))
    for inputs, outputs in ((13, 1), (1, 13), (0, 1)):
        with pytest.raises(Refusal, match=r"FixedRecurrence: expected inputs and outputs among 12 neurons"):
            FixedRecurrence(signed(), inputs, outputs)
