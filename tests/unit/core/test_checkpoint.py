"""Activation checkpointing: the same numbers and gradients for less memory, or a refusal."""

import pytest
import torch
import torch.utils.checkpoint
from torch import nn

import ranvier
from ranvier.core.checks import Refusal

X = 3 * torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Checkpointed(nn.Module):
    """What it holds, checkpointed."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return ranvier.checkpoint(self.inner, x)


class Plain(Checkpointed):
    def forward(self, x):
        return self.inner(x)


def body():
    return nn.Sequential(
        nn.Linear(3, 4),
        ranvier.LIF(tau=nn.Parameter(torch.tensor(2.0))),
        ranvier.Recurrent(ranvier.CuBaLIF(tau=2.0), nn.Linear(4, 4)),
    )


def network(wrap):
    torch.manual_seed(0)
    net = nn.Sequential(
        ranvier.DelayLine([1]), wrap(body()), wrap(nn.Sequential(nn.Linear(4, 3), ranvier.AdaptiveLIF(tau=2.0)))
    )
    return net.double()


def names(mapping):
    return {k.replace("inner.", ""): v for k, v in mapping.items()}


def same(a, b):
    a, b = names(a), names(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def outcome(wrap, call):
    """Everything that a backward pass through `call` leaves."""
    net, x = network(wrap), X.clone().requires_grad_()
    outputs = call(net, x)
    sum(t.sin().sum() for t in outputs).backward()
    return {
        "x": x.grad,
        **{k: p.grad for k, p in net.named_parameters()},
        **{f"out{i}": t.detach() for i, t in enumerate(outputs)},
    }


def in_run(net, x):
    y, state = ranvier.run(net, x)
    return [y, *state.values()]


def in_chunks(net, x):
    first, state = ranvier.run(net, x[:4])
    second, state = ranvier.run(net, x[4:], state)
    return [first, second, *state.values()]


def recorded(net, x):
    y, state, notes = ranvier.run(net, x, record=("spikes", "v"))
    return [y, *state.values(), *(notes[k] for k in sorted(notes))]


@pytest.mark.parametrize(
    "call", [lambda net, x: [net(x)], in_run, in_chunks, recorded], ids=["plain", "run", "chunks", "record"]
)
@pytest.mark.parametrize(
    "wrap", [Checkpointed, lambda m: Checkpointed(nn.Sequential(Checkpointed(m)))], ids=["once", "nested"]
)
def test_outputs_state_and_gradients_are_those_without_checkpoints(call, wrap):
    expected, actual = outcome(Plain, call), outcome(wrap, call)
    if wrap is not Checkpointed:
        actual = {k.replace("inner.0.inner", "inner"): v for k, v in actual.items()}
    assert same(expected, actual)
    assert expected["1.inner.1.tau"] != 0 and expected["x"].any()


def test_names_are_those_without_checkpoints():
    _, state, notes = ranvier.run(network(Checkpointed), X, record=("v",))
    _, plain_state, plain_notes = ranvier.run(network(Plain), X, record=("v",))
    assert list(state) == list(plain_state) and list(notes) == list(plain_notes)


def test_the_gradient_reaches_a_given_state():
    def call(net, x):
        state = {k: v.requires_grad_() for k, v in START.items()}
        y, _ = ranvier.run(net, x, state)
        return torch.autograd.grad(y.sum(), list(state.values()))

    START = {k: torch.rand_like(v) for k, v in ranvier.run(network(Plain), X)[1].items()}  # noqa: N806
    plain, checkpointed = call(network(Plain), X), call(network(Checkpointed), X)
    assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True)) and any(g.any() for g in plain)


def test_it_keeps_less_for_backward():
    def kept(wrap):
        numel = 0

        def pack(t):
            nonlocal numel
            numel += t.numel()
            return t

        net, x = network(wrap), torch.randn(50, 2, 3, dtype=torch.float64)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            net(x)
        return numel

    assert kept(Checkpointed) < kept(Plain) / 4


def test_random_numbers_are_drawn_once():
    """The recomputation sees the spikes of the forward pass, though the encoder draws its seed."""
    torch.manual_seed(0)
    net = nn.Sequential(ranvier.RateEncoder(5), nn.Linear(3, 4), ranvier.LIF(tau=1.5, threshold=0.2))
    image, gradients = torch.rand(1, 2, 3), []
    for call in (net, lambda x: ranvier.checkpoint(net, x)):
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(call(image).sum(), net[1].weight)[0])
    assert torch.equal(*gradients) and gradients[0].any()


def test_lengths_go_in_and_what_an_encoder_makes_of_them_comes_out():
    decoder = nn.Sequential(nn.Linear(3, 3), ranvier.LIF(), ranvier.RateDecoder()).double()
    lengths = torch.tensor([6, 2])
    results = []
    for wrap in (Plain, Checkpointed):
        x = X.clone().requires_grad_()
        y, _ = ranvier.run(wrap(decoder), x, lengths=lengths)
        results.append((y, torch.autograd.grad(y.square().sum(), x)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)) and not results[0][1][2:, 1].any()

    net = nn.Sequential(Checkpointed(ranvier.Direct(4)), ranvier.LeakyIntegrator(), ranvier.LastDecoder())
    y, _ = ranvier.run(net, X[:1], lengths=torch.tensor([1, 1]))
    assert torch.allclose(y, X[0] * (1 - 0.5**4), rtol=1e-12)


def test_recomputation_sees_the_lengths_of_the_forward_pass():
    """A later encoder changes them before the backward pass begins."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder, self.direct = ranvier.RateDecoder(), ranvier.Direct(3)

        def forward(self, x):
            y = ranvier.checkpoint(self.decoder, x.sigmoid())
            self.direct(x[:1])
            return y

    x = X.clone().requires_grad_()
    ranvier.run(Net(), x, lengths=torch.tensor([6, 2]))[0].sum().backward()
    assert x.grad[:, 0].all() and x.grad[:2, 1].all() and not x.grad[2:, 1].any()


@pytest.mark.parametrize("in_run", [True, False])
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "layer", [ranvier.LIF, lambda: nn.Sequential(ranvier.DelayLine([1]), nn.Tanh()), ranvier.RateDecoder]
)
def test_torchs_own_checkpoint_around_a_stateful_module_is_refused_with_the_way_out(layer, reentrant, in_run):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer()

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.layer, x.sin(), use_reentrant=reentrant)

    x = X.clone().requires_grad_()
    y = ranvier.run(Net(), x)[0] if in_run else Net()(x)
    with pytest.raises(
        Refusal, match=r"expected ranvier\.checkpoint.*got torch\.utils\.checkpoint.*ranvier\.checkpoint\(module, x\)"
    ):
        y.square().sum().backward()


@pytest.mark.parametrize("first", [ranvier.checkpoint, lambda layer, x: layer(x)])
@pytest.mark.parametrize("second", [ranvier.checkpoint, lambda layer, x: layer(x)])
def test_a_module_called_twice_is_refused_also_through_checkpoints(first, second):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = ranvier.LIF()

        def forward(self, x):
            return second(self.layer, first(self.layer, x))

    with pytest.raises(Refusal, match="layer: expected one call in a run"):
        ranvier.run(Net(), X)


def test_a_module_that_the_model_does_not_own_is_refused_also_through_a_checkpoint():
    hidden = [ranvier.LIF()]

    class Net(nn.Module):
        def forward(self, x):
            return ranvier.checkpoint(hidden[0], x)

    with pytest.raises(Refusal, match="expected a module of the model"):
        ranvier.run(Net(), X)
