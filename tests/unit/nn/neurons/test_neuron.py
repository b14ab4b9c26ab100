"""A neuron of one's own: declarations, `step`, and the words that it may use."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal

BACKENDS = pytest.mark.parametrize("backend", ["reference", "fused"])


class Perfect(ranvier.Neuron):
    """Integrates without a leak."""

    threshold = ranvier.Parameter(1.0, low=0.0)
    v = ranvier.State()

    def step(self, x, v):
        v = v + x
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)


class Rested(Perfect):
    """A kind of Perfect with one more parameter and one more state, which starts elsewhere."""

    gain = ranvier.Parameter(2.0)
    sum = ranvier.State(rest=-1.0)

    def step(self, x, v, sum):
        z, v = super_step(self, self.scaled(x), v)
        return z, v, sum + x

    def scaled(self, x):
        return self.gain * x


super_step = Perfect.step


class Noisy(ranvier.Neuron):
    """Draws from every word."""

    random = True
    threshold = ranvier.Parameter(1.0)
    v = ranvier.State()

    def step(self, x, v):
        v = 0.5 * v + x + 0.3 * self.normal() + 0.1 * self.uniform()
        z = self.spike(v - self.threshold) * self.bernoulli(0.8 + 0 * x)
        return z, self.reset(v, z)


class Whole(ranvier.Neuron):
    """Rounds."""

    v = ranvier.State()
    spiking = False

    def step(self, x, v):
        v = v + x
        return 10 * self.floor(v) + self.round(v), v


def test_declarations_are_found_with_those_of_the_parent_in_order():
    assert list(Rested.declared) == ["threshold", "gain"] and list(Rested.states) == ["v", "sum"]
    assert list(Perfect.declared) == ["threshold"] and list(Perfect.states) == ["v"]
    assert Rested.records == ("spikes", "v", "sum") and Whole.records == ("v",)


@BACKENDS
def test_a_neuron_of_ones_own_computes_what_its_step_says(backend):
    x = torch.tensor([0.5, 0.5, 0.25]).reshape(3, 1, 1)
    with ranvier.backend(backend):
        y, state = ranvier.run(Perfect(), x)
        z, rested = ranvier.run(Rested(gain=1.0), x)
    assert y.flatten().tolist() == z.flatten().tolist() == [0.0, 1.0, 0.0]
    assert state["v"].item() == rested["v"].item() == 0.25 and rested["sum"].item() == 0.25


def test_inside_step_a_parameter_is_its_value_and_outside_what_was_given():
    learnt = nn.Parameter(torch.tensor(3.0))
    layer = Perfect(threshold=learnt)
    assert layer.threshold is learnt and isinstance(Perfect().threshold, torch.Tensor)
    assert dict(layer.named_parameters()) == {"threshold": learnt}


def test_its_signature_names_its_parameters():
    assert list(inspect.signature(Rested).parameters)[:2] == ["threshold", "gain"]
    with pytest.raises(
        Refusal, match=r"Rested: expected a parameter that it declares; got 'gian'\. Did you mean 'gain'"
    ):
        Rested(gian=1.0)


def test_a_neuron_without_step_cannot_be_made():
    class Nothing(ranvier.Neuron):
        pass

    with pytest.raises(TypeError, match=r"abstract method '?step"):
        Nothing()


def test_neurons_can_be_copied_and_pickled_for_worker_processes():
    x = torch.rand(4, 2, 3)
    layer = Rested(gain=nn.Parameter(torch.tensor([1.0, 2.0, 3.0])), surrogate=ranvier.Triangle(width=2.0))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x)) and twin.surrogate == layer.surrogate


@BACKENDS
def test_whole_numbers_pass_the_gradient_straight_through(backend):
    x = torch.tensor([0.75, 0.75, 1.0, -3.0]).reshape(4, 1, 1).requires_grad_()
    with ranvier.backend(backend):
        y = Whole()(x)
    assert y.flatten().tolist() == [10 * 0 + 1, 10 * 1 + 2, 10 * 2 + 2, 10 * -1 + 0]  # of 0.75, 1.5, 2.5, -0.5
    y.sum().backward()
    assert x.grad.flatten().tolist() == [44.0, 33.0, 22.0, 11.0]


# random neurons


@BACKENDS
def test_a_random_neuron_goes_on_in_its_stream_when_run_in_chunks(backend):
    x = torch.rand(9, 2, 3)
    with ranvier.backend(backend):
        torch.manual_seed(1)
        whole, end = ranvier.run(Noisy(), x)
        torch.manual_seed(1)
        outputs, state = [], None
        for chunk in x.split([4, 0, 5]):
            y, state = ranvier.run(Noisy(), chunk, state)
            outputs.append(y)
    assert torch.equal(torch.cat(outputs), whole) and 0.05 < whole.mean() < 0.95
    assert list(end) == ["v", "seed", "step"] and all(torch.equal(state[k], v) for k, v in end.items())


def test_a_random_neuron_draws_the_same_on_every_backend():
    x, outcomes = torch.rand(9, 2, 3), []
    for backend in ("reference", "fused"):
        torch.manual_seed(1)
        with ranvier.backend(backend):
            outcomes.append(ranvier.run(Noisy(), x, record=("v",)))
    (y, _, recorded), (z, _, also) = outcomes
    assert torch.equal(y, z) and torch.allclose(recorded["v"], also["v"], atol=1e-5)


@BACKENDS
def test_torch_manual_seed_decides_and_every_sample_and_call_differs(backend):
    x = torch.full((20, 2, 3), 0.5)
    with ranvier.backend(backend):
        torch.manual_seed(1)
        first, second = Noisy()(x), Noisy()(x)
        torch.manual_seed(1)
        assert torch.equal(Noisy()(x), first)
    assert not torch.equal(first, second) and not torch.equal(first[:, 0], first[:, 1])


def test_a_random_neuron_can_recur_and_be_checkpointed():
    torch.manual_seed(0)
    layer, x = ranvier.Recurrent(Noisy(), nn.Linear(3, 3)), torch.rand(8, 2, 3, requires_grad=True)
    torch.manual_seed(1)
    whole, end = ranvier.run(layer, x)
    torch.manual_seed(1)
    first, state = ranvier.run(layer, x[:3])
    second, state = ranvier.run(layer, x[3:], state)
    assert torch.equal(whole, torch.cat([first, second])) and all(torch.equal(state[k], v) for k, v in end.items())
    gradients = []
    for call in (layer, lambda x: ranvier.checkpoint(layer, x)):
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(call(x).sum(), x)[0])
    assert torch.equal(*gradients) and gradients[0].any()


@pytest.mark.parametrize("word", ["uniform", "normal"])
@BACKENDS
def test_a_draw_in_a_neuron_that_is_not_random_is_refused_with_what_to_write(word, backend):
    class Drawing(ranvier.Neuron):
        v = ranvier.State()

        def step(self, x, v):
            return x + getattr(self, word)(), v

    with (
        ranvier.backend(backend),
        pytest.raises(Refusal, match=r"Drawing: expected a class with random = True.*Write random = True"),
    ):
        Drawing()(torch.zeros(2, 1, 1))


# the gradient from step to step in recurrence


def test_recurrence_without_a_temporal_gradient_cuts_also_what_comes_back():
    torch.manual_seed(0)
    layer = ranvier.Recurrent(ranvier.LIF(temporal_grad="none"), nn.Linear(3, 3))
    x = 3 * torch.randn(4, 2, 3)
    x.requires_grad_()
    y = layer(x)
    (gradient,) = torch.autograd.grad(y[3].sum(), x, retain_graph=True)
    assert not gradient[:3].any() and gradient[3].any()
    assert torch.autograd.grad(y[3].sum(), layer.synapse.weight)[0].any()


@BACKENDS
def test_the_number_of_states_that_step_returns_is_the_number_declared(backend):
    class Forgetful(ranvier.Neuron):
        v = ranvier.State()
        w = ranvier.State()

        def step(self, x, v, w):
            return x, v

    with ranvier.backend(backend), pytest.raises(ValueError):
        ranvier.run(Forgetful(), torch.zeros(2, 1, 1), record=("w",))


def test_an_option_that_may_change_is_refused_by_name():
    class Weighted(ranvier.Neuron):
        v = ranvier.State()

        def __init__(self, *, weights=(1.0,), **options):
            super().__init__(**options)
            self.weights = weights

        def step(self, x, v):
            v = v + self.weights[0] * x
            return v, v

    assert Weighted(weights=(2.0,))(torch.ones(1, 1, 1)).item() == 2.0
    with pytest.raises(Refusal, match=r"Weighted\.weights: expected an option .* got list\. Write a tuple"):
        Weighted(weights=[2.0])
