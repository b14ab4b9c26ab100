"""A network that stops early says what it would have said at that step, and computes nothing more."""

import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.deploy.early_exit import DynamicConfidence, EarlyExit, EntropyExit, TopKGap, accumulated, record

SURE = DynamicConfidence(0.5)


def network(*, readout=None):
    return nn.Sequential(
        ranvier.Linear(6, 16),
        ranvier.BatchNorm(16),
        ranvier.LIF(threshold=0.3),
        ranvier.Recurrent(ranvier.LIF(threshold=0.5), nn.Linear(16, 16)),
        ranvier.Linear(16, 4),
        readout or ranvier.LeakyIntegrator(tau=3.0),
    )


def conv():
    return nn.Sequential(
        ranvier.Conv2d(1, 4, 3),
        ranvier.Direct(9),
        ranvier.LIF(threshold=0.2),
        nn.Flatten(2),
        ranvier.Linear(4 * 16, 3),
    )


def at(scores, steps):
    return scores[steps - 1, torch.arange(len(steps))]


@pytest.mark.parametrize("policy", [DynamicConfidence(0.45), EntropyExit(0.8), TopKGap((0.5,) * 12)])
@pytest.mark.parametrize("chunk", [1, 3, 5, 20])
def test_it_says_what_the_policy_says_of_a_recording(policy, chunk):
    model, x = network(), torch.rand(12, 20, 6) * 2
    scores = record(model, [x])
    found = EarlyExit(model, policy, chunk=chunk)(x)
    expected = policy.steps(scores)
    assert expected.unique().numel() > 3  # some stop, at different steps
    assert torch.equal(found.steps, expected)
    torch.testing.assert_close(found.scores, at(scores, expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [network, conv])
def test_a_batch_is_its_samples_one_by_one(make):
    model = make()
    x = torch.rand(12, 9, 6) * 2 if make is network else torch.rand(1, 9, 1, 6, 6)
    net = EarlyExit(model, DynamicConfidence(0.45))
    together = net(x)
    for b in range(9):
        alone = net(x[:, b : b + 1])
        assert alone.steps.item() == together.steps[b].item()
        torch.testing.assert_close(alone.scores[0], together.scores[b], atol=1e-5, rtol=1e-5)


def test_nothing_is_computed_for_samples_that_left():
    model, x = network(), torch.rand(12, 20, 6) * 2
    rows = []
    model[0].register_forward_hook(lambda _m, inputs, _y: rows.append(inputs[0].shape[:2].numel()))
    found = EarlyExit(model, SURE)(x)
    assert sum(rows) == found.steps.sum().item() < 12 * 20
    rows.clear()
    found = EarlyExit(model, SURE, chunk=4)(x)
    assert sum(rows) == (found.steps.add(3).div(4, rounding_mode="floor") * 4).sum().item()


def test_what_lies_before_direct_runs_once():
    model, x, calls = conv(), torch.rand(1, 5, 1, 6, 6), []
    model[0].register_forward_hook(lambda _m, inputs, _y: calls.append(inputs[0].shape[:2]))
    found = EarlyExit(model, DynamicConfidence(1.0))(x)
    assert calls == [(1, 5)] and found.steps.tolist() == [9] * 5
    with torch.no_grad():
        torch.testing.assert_close(found.scores, model.eval()(x).sum(0))
    assert EarlyExit(model, DynamicConfidence(1.0), max_steps=4)(x).steps.tolist() == [4] * 5


def test_thresholds_at_the_ends():
    model, x = network(), torch.rand(7, 4, 6)
    whole = EarlyExit(model, DynamicConfidence(1.0))(x)
    assert whole.steps.tolist() == [7] * 4
    with torch.no_grad():
        torch.testing.assert_close(whole.scores, model.eval()(x).sum(0))
    assert EarlyExit(model, DynamicConfidence(0.0))(x).steps.tolist() == [1] * 4


@pytest.mark.parametrize("decoder", [ranvier.RateDecoder, ranvier.MaxDecoder, ranvier.LastDecoder])
def test_a_decoder_is_asked_for_its_value_so_far(decoder):
    model, x = network(readout=decoder()), torch.rand(8, 10, 6) * 3
    scores = record(model, [x])
    with torch.no_grad():
        for t in range(8):
            torch.testing.assert_close(scores[t], model.eval()(x[: t + 1]))
    policy = TopKGap((0.15,) * 8)
    found = EarlyExit(model, policy)(x)
    assert torch.equal(found.steps, policy.steps(scores)) and found.steps.unique().numel() > 1
    torch.testing.assert_close(found.scores, at(scores, found.steps))


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("readout", [None, ranvier.RateDecoder()])
def test_ragged_sequences_leave_at_their_own_end(chunk, readout):
    model, x = network(readout=readout), torch.rand(9, 4, 6)
    lengths = torch.tensor([9, 2, 5, 1])
    found = EarlyExit(model, DynamicConfidence(1.0), chunk=chunk)(x, lengths)
    assert torch.equal(found.steps, lengths)
    for b, n in enumerate(lengths.tolist()):
        alone = EarlyExit(model, DynamicConfidence(1.0))(x[:n, b : b + 1])
        torch.testing.assert_close(found.scores[b], alone.scores[0], atol=1e-5, rtol=1e-5)


def test_modes_and_gradients_are_left_as_they_were():
    model = network()
    model[2].eval()
    before = [m.training for m in model.modules()]
    found = EarlyExit(model, SURE)(torch.rand(3, 2, 6))
    assert [m.training for m in model.modules()] == before and not found.scores.requires_grad
    assert int(model[1].num_batches_tracked if hasattr(model[1], "num_batches_tracked") else 0) == 0


def test_recording_with_dropout_draws_and_without_does_not():
    model = nn.Sequential(ranvier.Linear(3, 8), ranvier.LIF(), nn.Dropout(0.5), ranvier.Linear(8, 2))
    x = torch.rand(5, 4, 3) * 4
    assert torch.equal(record(model, [x]), record(model, [x]))
    assert not torch.equal(record(model, [x], dropout=True), record(model, [x], dropout=True))


def test_half_precision_outputs_add_up_in_float32():
    model, x = nn.Sequential(ranvier.LeakyIntegrator(tau=1.0)), torch.full((300, 1, 2), 0.01, dtype=torch.bfloat16)
    found = EarlyExit(model, DynamicConfidence(1.0))(x)
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores, 300 * x[0].float())


def test_sums_are_in_the_order_of_the_steps():
    outputs = torch.randn(50, 3)
    total = outputs[0]
    for output in outputs[1:]:
        total = total + output
    assert torch.equal(accumulated(outputs)[-1], total)


class Centred(nn.Module):
    """Subtracts the mean over time, so it looks ahead."""

    def forward(self, x):
        return x - x.mean(0)


class Remembering(nn.Module):
    """Integrates over time and forgets between two calls."""

    def forward(self, x):
        return x.cumsum(0)


@pytest.mark.parametrize("layer", [Centred(), Remembering()])
def test_models_that_chunks_would_change_are_refused(layer):
    with pytest.raises(Refusal, match="causal in time"):
        record(nn.Sequential(ranvier.Linear(3, 3), layer), [torch.rand(8, 4, 3)])


def test_neurons_that_are_not_causal_are_refused_by_name():
    model = nn.Sequential(ranvier.Linear(3, 4), ranvier.PSN(6), ranvier.Linear(4, 2))
    x = torch.rand(6, 2, 3)
    with pytest.raises(Refusal, match=r"1 \(PSN\).*whole sequence"):
        EarlyExit(model, SURE)(x)
    with pytest.raises(Refusal, match="PSN"):
        record(model, [x])


def test_steps_that_do_not_match_are_refused():
    with pytest.raises(Refusal, match="One step in must be one step out"):
        EarlyExit(nn.Sequential(ranvier.TimePool(2)), SURE, chunk=4)(torch.rand(8, 2, 3))
    with pytest.raises(Refusal, match="encode before"):
        EarlyExit(nn.Sequential(ranvier.RateEncoder(5), ranvier.LIF()), SURE)(torch.rand(1, 2, 3))
    with pytest.raises(Refusal, match="classes"):
        EarlyExit(nn.Sequential(ranvier.LIF()), SURE)(torch.rand(3, 2, 3, 4))


def test_other_bad_input_is_refused():
    net = EarlyExit(network(), SURE)
    for lengths in (torch.tensor([3]), torch.tensor([0, 3]), torch.tensor([4, 3])):
        with pytest.raises(Refusal, match="lengths"):
            net(torch.rand(3, 2, 6), lengths)
    with pytest.raises(Refusal, match="max_steps"):
        EarlyExit(network(), SURE, max_steps=4)(torch.rand(3, 2, 6))
    with pytest.raises(Refusal, match="max_steps"):
        EarlyExit(network(), SURE, max_steps=0)(torch.rand(3, 2, 6))
    with pytest.raises(Refusal, match="chunk"):
        EarlyExit(network(), SURE, chunk=0)
    with pytest.raises(Refusal, match="time first"):
        net(torch.rand(6))
    with pytest.raises(Refusal, match="a batch or more"):
        record(network(), [])
    with pytest.raises(Refusal, match="as many steps"):
        record(network(), [torch.rand(3, 2, 6), torch.rand(4, 2, 6)])
