import copy
import gc
import weakref

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.core.state import current

X = 3 * torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(3, 4),
        ranvier.LIF(),
        ranvier.DelayLine([0, 2]),
        nn.Sequential(nn.Linear(8, 4), ranvier.Recurrent(ranvier.CuBaLIF(tau=2.0), nn.Linear(4, 4))),
        ranvier.LeakyIntegrator(),
    )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


class Gate(nn.Module):
    """Calls `b` only for positive input."""

    def __init__(self):
        super().__init__()
        self.a, self.b = ranvier.LIF(), ranvier.LIF()

    def forward(self, x):
        return self.b(self.a(x)) if x.sum() > 0 else self.a(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = ranvier.LIF()

    def forward(self, x):
        return self.layer(self.layer(x))


def test_state_is_flat_and_named_by_place_with_the_batch_first():
    _, state = ranvier.run(network(), X)
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "1.v": (2, 4),
        "2.past": (2, 2, 4),
        "3.1.i": (2, 4),
        "3.1.v": (2, 4),
        "3.1.z": (2, 4),
        "4.v": (2, 4),
    }


def test_a_model_that_is_itself_stateful_has_names_without_a_dot():
    _, state = ranvier.run(ranvier.LIF(), X)
    assert list(state) == ["v"]
    assert list(ranvier.run(ranvier.LIF(), X, state)[1]) == ["v"]


def test_a_model_without_state_runs_and_returns_none():
    y, state = ranvier.run(nn.Linear(3, 4), X)
    assert state == {} and ranvier.run(nn.Linear(3, 4), X, state)[0].shape == y.shape


def test_a_plain_call_starts_at_rest_and_keeps_nothing():
    net = network()
    attributes = [set(vars(m)) for m in net.modules()]
    weights = copy.deepcopy(net.state_dict())
    first, second = net(X), net(X)
    assert torch.equal(first, second) and torch.equal(first, ranvier.run(net, X)[0])
    assert attributes == [set(vars(m)) for m in net.modules()]
    assert same(net.state_dict(), weights)
    with torch.no_grad():
        held = [weakref.ref(t) for t in (net(X), *ranvier.run(net, X)[1].values())]
    gc.collect()
    assert all(ref() is None for ref in held)


@pytest.mark.parametrize("wrong", [X[0], X.long()])
def test_nothing_lies_on_the_thread_after_a_run_or_after_its_failure(wrong):
    ranvier.run(network(), X)
    assert current() is None
    with pytest.raises(Exception):  # noqa: B017 - whatever the layer that meets it raises
        ranvier.run(network(), wrong)
    assert current() is None


def test_the_input_state_is_not_changed():
    net = network()
    _, state = ranvier.run(net, X)
    kept = {k: v.clone() for k, v in state.items()}
    ranvier.run(net, X, state)
    assert same(state, kept)


@pytest.mark.parametrize(
    "decoder", [ranvier.RateDecoder, ranvier.LastDecoder, ranvier.MaxDecoder, ranvier.FirstSpikeDecoder]
)
def test_writing_into_the_output_does_not_reach_the_state(decoder):
    with torch.no_grad():
        y, state = ranvier.run(decoder(), X)
        kept = {k: v.clone() for k, v in state.items()}
        y.fill_(7)
    assert same(state, kept)


def test_the_state_of_a_delay_line_holds_no_more_than_its_delays():
    _, state = ranvier.run(ranvier.DelayLine([2]), torch.randn(1000, 2, 3))
    assert state["past"].untyped_storage().nbytes() == 2 * 2 * 3 * 4


def test_state_is_no_part_of_the_state_dict_which_fits_every_batch_size():
    net = network()
    names = set(net.state_dict())
    ranvier.run(net, X)
    assert set(net.state_dict()) == names and not any(k.endswith((".v", ".past", ".i", ".z")) for k in names)
    other = network()
    other(torch.randn(2, 5, 3))
    other.load_state_dict(net.state_dict())


def test_a_detached_state_cuts_the_gradient_and_keeps_the_values():
    net, x = network(), X.clone().requires_grad_()
    _, state = ranvier.run(net, x[:3])
    detached = {k: v.detach() for k, v in state.items()}
    whole, cut = ranvier.run(net, x[3:], state)[0], ranvier.run(net, x[3:], detached)[0]
    assert torch.equal(whole, cut)
    assert torch.autograd.grad(whole.sum(), x, retain_graph=True)[0][:3].abs().sum() > 0
    assert torch.autograd.grad(cut.sum(), x)[0][:3].abs().sum() == 0


def test_a_state_saved_moved_and_loaded_goes_on_to_the_bit(tmp_path):
    net = nn.Sequential(ranvier.RateEncoder(3), network())
    torch.manual_seed(5)
    image = torch.rand(1, 2, 3)
    _, state = ranvier.run(net, image)
    ranvier.save({k: v.to("cpu", copy=True) for k, v in state.items()}, tmp_path / "state")
    loaded = ranvier.load(tmp_path / "state")
    assert same(loaded, {k: v.detach() for k, v in state.items()})
    expected, actual = ranvier.run(net, image, state), ranvier.run(net, image, loaded)
    assert torch.equal(expected[0], actual[0]) and same(expected[1], actual[1])


def test_a_module_that_a_call_skips_keeps_its_state():
    net, x = Gate(), X.abs()
    _, state = ranvier.run(net, x)
    _, after = ranvier.run(net, -x, state)
    assert after["b.v"] is state["b.v"] and not torch.equal(after["a.v"], state["a.v"])


def test_deepcopies_are_independent_and_equal():
    net = network()
    _, state = ranvier.run(net, X)
    twin = copy.deepcopy(net)
    assert torch.equal(ranvier.run(twin, X, state)[0], ranvier.run(net, X, state)[0])
    twin[1].tau.fill_(4.0)
    assert net[1].tau == 2.0 and not torch.equal(twin(X), net(X))


def test_a_run_inside_a_run_has_a_state_of_its_own():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.layer = ranvier.LIF(), ranvier.LIF()

        def forward(self, x):
            return self.layer(ranvier.run(self.inner, x)[0])

    y, state = ranvier.run(Outer(), X)
    assert torch.equal(y, ranvier.LIF()(ranvier.LIF()(X))) and list(state) == ["layer.v"]


def test_wrappers_leave_no_trace_in_names():
    """DDP and torch.compile have tests of their own."""
    net = network()
    _, state = ranvier.run(net, X)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    assert list(ranvier.run(averaged, X, state)[1]) == list(state)
    assert next(iter(ranvier.run(nn.Sequential(averaged, ranvier.LIF()), X)[1])) == "0.1.v"


def test_a_module_attribute_called_module_is_part_of_the_name():
    """Only real wrappers leave no trace: two places that differ in it are two."""
    net = nn.Module()
    net.a, net.module = ranvier.LIF(), nn.Sequential()
    net.module.a = ranvier.LIF()
    net.forward = lambda x: net.a(net.module.a(x))
    assert set(ranvier.run(net, X)[1]) == {"a.v", "module.a.v"}


def test_the_state_of_another_model_is_refused_with_the_nearest_name():
    _, state = ranvier.run(nn.ModuleDict({"hidden": ranvier.LIF()})["hidden"], X)
    with pytest.raises(Refusal, match=r"state 'hiden\.v': .*another model.*Did you mean 'hidden'\?"):
        net = nn.Sequential()
        net.add_module("hidden", ranvier.LIF())
        ranvier.run(net, X, {"hiden.v": state["v"]})


def test_the_state_of_another_kind_of_neuron_is_refused():
    _, state = ranvier.run(nn.Sequential(ranvier.AdaptiveLIF()), X)
    with pytest.raises(Refusal, match=r"state '0\.w': expected a variable that its module has.*There are: 0\.v"):
        ranvier.run(nn.Sequential(ranvier.LIF()), X, state)
    _, state = ranvier.run(nn.Sequential(ranvier.LIF()), X)
    with pytest.raises(
        Refusal, match=r"state '0\.w': expected an entry for every stateful module; got none.*There are: 0\.v"
    ):
        ranvier.run(nn.Sequential(ranvier.AdaptiveLIF()), X, state)


def test_a_missing_entry_is_refused_with_the_nearest_name():
    net = network()
    _, state = ranvier.run(net, X)
    del state["3.1.i"]
    with pytest.raises(Refusal, match=r"state '3\.1\.i': .*got none; Did you mean '3\.1\.[vz]'"):
        ranvier.run(net, X, state)


def test_another_batch_size_is_refused_with_both_shapes():
    _, state = ranvier.run(ranvier.LIF(), X)
    with pytest.raises(Refusal, match=r"state 'v': expected \(5, 3\) torch\.float32; got \(2, 3\) torch\.float32\."):
        ranvier.run(ranvier.LIF(), torch.randn(6, 5, 3), state)


@pytest.mark.parametrize(("now", "then"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_another_dtype_is_refused_with_both(now, then):
    _, state = ranvier.run(ranvier.LIF(), X.to(then))
    with pytest.raises(Refusal, match=rf"state 'v': expected .* {now}; got .* {then}\."):
        ranvier.run(ranvier.LIF(), X.to(now), state)


def test_a_stateful_module_called_twice_in_a_run_is_refused_by_name():
    with pytest.raises(Refusal, match=r"layer: expected one call in a run; got a second one.*module of its own"):
        ranvier.run(nn.Sequential(Twice()), X)
    assert Twice()(X).shape == X.shape  # without a run nothing is overwritten


def test_a_module_shared_by_two_places_is_refused():
    shared = ranvier.LIF()
    with pytest.raises(Refusal, match="expected one call in a run"):
        ranvier.run(nn.Sequential(shared, nn.Linear(3, 3), shared), X)


def test_a_stateful_module_that_the_model_does_not_own_is_refused():
    hidden = [ranvier.LIF()]

    class Owner(nn.Module):
        def forward(self, x):
            return hidden[0](x)

    with pytest.raises(Refusal, match=r"LIF: expected a module of the model.*Register it as a submodule"):
        ranvier.run(Owner(), X)


def test_a_recording_holds_exactly_what_was_asked_for():
    _, _, recorded = ranvier.run(network(), X, record=("spikes", "i"))
    assert set(recorded) == {"1.spikes", "3.1.spikes", "3.1.i"}
    _, _, recorded = ranvier.run(network(), X, record=("v",))
    assert set(recorded) == {"1.v", "3.1.v", "4.v"}
    assert len(ranvier.run(network(), X)) == 2


def test_what_is_recorded_is_the_output_and_the_state_after_every_step():
    net = ranvier.AdaptiveLIF(tau=2.0)
    y, state, recorded = ranvier.run(net, X, record=("spikes", "v", "w"))
    assert torch.equal(recorded["spikes"], y) and y.any()
    for t in range(len(X)):
        _, after = ranvier.run(net, X[: t + 1])
        assert torch.equal(recorded["v"][t], after["v"]) and torch.equal(recorded["w"][t], after["w"])
    assert torch.equal(recorded["v"][-1], state["v"])


def test_recording_changes_nothing_and_carries_the_gradient():
    net, x = network(), X.clone().requires_grad_()
    y, state, recorded = ranvier.run(net, x, record=("v",))
    plain, plain_state = ranvier.run(net, x)
    assert torch.equal(y, plain) and same(state, plain_state)
    assert torch.autograd.grad(recorded["1.v"].sum(), x)[0].any()


def test_an_empty_sequence_records_empty_sequences():
    _, _, recorded = ranvier.run(ranvier.LIF(), X[:0], record=("spikes", "v"))
    assert {k: tuple(v.shape) for k, v in recorded.items()} == {"spikes": (0, 2, 3), "v": (0, 2, 3)}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (("spike",), r"record: .*got 'spike'\. Did you mean 'spikes'\?"),
        (("v", "z"), r"record: .*got 'z'\."),
        ("v", r"record: expected a tuple of names; got 'v'\. Write record=\('v',\)"),
    ],
)
def test_what_nothing_records_is_refused(record, text):
    with pytest.raises(Refusal, match=text):
        ranvier.run(network(), X, record=record)


def test_a_membrane_read_out_has_no_spikes_to_record():
    with pytest.raises(Refusal, match=r"got 'spikes'\. .*There are: v"):
        ranvier.run(ranvier.LeakyIntegrator(), X, record=("spikes",))
