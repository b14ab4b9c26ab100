"""Networks that are asked at every step: what they are trained by, and what is measured when they stop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.data.samples import Batch, Samples, Split
from ranvier.deploy.early_exit import DynamicConfidence, record
from ranvier.lab.anytime import Anytime, Judged, _accuracy, _forward, _loss, inputs, stopped
from ranvier.lab.exits import by_confidence, by_gap
from ranvier.lab.recipe import Recipe, Session
from ranvier.lab.report.latency import latency, read
from ranvier.learn.rcs_regulariser import RCSRegulariser
from ranvier.learn.tet_loss import tet_loss

CLASSES = ("a", "b", "c")


def network():
    return nn.Sequential(
        ranvier.Linear(6, 12), ranvier.LIF(threshold=0.3), nn.Dropout(0.2), ranvier.Linear(12, len(CLASSES))
    )


def samples(n, seed, steps=10):
    """Noise with a channel of the class that is louder."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, len(CLASSES), n)
    x = generator.normal(size=(n, steps, 6)).astype("float32") + 1.5 * np.eye(6, dtype="float32")[y][:, None]
    return Samples(list(x), y, CLASSES)


def recipe(judge, *, validation=True, **options):
    parts = [samples(n, seed) for seed, n in enumerate((90, 60, 60))]
    fit = Anytime(epochs=3, batch=15, learning_rate=0.02, judge=judge, **options)
    keep = (lambda fold: Split(parts[0], parts[1])) if validation else None
    return Recipe(network, lambda fold: Split(parts[0], parts[2]), fit, (), "", validation=keep)


def test_the_loss_is_that_of_every_step_and_the_regulariser():
    model, batch = network().eval(), samples(8, 0).batch()
    outputs, _, seen = ranvier.run(model, batch.x, record=RCSRegulariser.records)
    packed = _forward(0.5, model, batch)
    assert packed.shape == (8, 11, 3)
    expected = tet_loss(outputs, batch.y) + RCSRegulariser(model, alpha=0.5)(seen, outputs, batch.y)
    torch.testing.assert_close(_loss(packed, batch.y), expected)
    torch.testing.assert_close(_loss(_forward(0.0, model, batch), batch.y), tet_loss(outputs, batch.y))
    assert _accuracy(packed, batch.y) == (outputs.sum(0).argmax(1) == batch.y).float().mean()


def test_the_regulariser_reaches_the_weights():
    model, batch = network(), samples(30, 0).batch()
    outputs = _forward(0.0, model.eval(), batch)
    right = Batch(batch.x, outputs[:, -2].argmax(1), batch.lengths)
    packed = _forward(1.0, model, right)
    assert packed[:, -1, 0].sum() > 0
    (grad,) = torch.autograd.grad(packed[:, -1, 0].sum(), model[0].weight)
    assert grad.abs().sum() > 0


def test_stopping_is_computed_as_it_was_recorded():
    model, test = network(), samples(300, 1)  # more than one batch
    policy = DynamicConfidence(0.5)
    scores = record(model, inputs(test))
    exits = stopped(model, policy, test)
    assert torch.equal(exits.steps, policy.steps(scores)) and exits.steps.unique().numel() > 1
    torch.testing.assert_close(exits.scores, scores[exits.steps - 1, torch.arange(300)], atol=1e-5, rtol=1e-5)


def test_a_network_that_stops_by_confidence(tmp_path: Path):
    made = recipe(by_confidence)
    result = made.fit(made, Session(tmp_path, progress=False, accelerator="cpu"))
    found = result.metrics
    assert 0.5 < found["accuracy"] <= found["oracle: accuracy"]
    assert found["early exit: share of the steps"] < 1 and found["mean steps at threshold 0"] == 1
    assert found["answers changed at threshold 1"] == 0 and found["mean steps at threshold 1"] == 10
    assert sum(map(sum, result.confusion)) == 60
    curves = read(tmp_path / "latency.json")
    assert set(curves) == {"dynamic confidence", "fixed", "oracle"} and len(curves["fixed"]) == 10
    assert curves["fixed"][-1]["accuracy"] == pytest.approx(found["accuracy"])


def test_a_network_that_stops_by_the_gap_beside_one_without_the_regulariser(tmp_path: Path):
    made = recipe(by_gap, validation=False, alphas={"network": 0.1, "plain": 0.0})
    found = made.fit(made, Session(tmp_path, progress=False, accelerator="cpu")).metrics
    for prefix in ("", "plain: "):
        strict = found[f"{prefix}fitting set, cut off: accuracy"]
        assert strict >= found[f"{prefix}fitting set: accuracy"]
        assert found[f"{prefix}stopped early and wrong on the fitting set"] == 0
        assert found[f"{prefix}smallest cost of a layer"] >= 1
        assert found[f"{prefix}distance from 1 of constant activity's cost"] < 1e-4
    assert {"cutoff", "plain: cutoff", "plain: oracle"} <= set(read(tmp_path / "latency.json"))


def test_a_run_that_goes_on_finds_the_same(tmp_path: Path):
    made = recipe(by_gap, validation=False, alphas={"network": 0.1, "plain": 0.0})
    first = made.fit(made, Session(tmp_path, progress=False, accelerator="cpu")).metrics
    again = made.fit(made, Session(tmp_path, progress=False, accelerator="cpu", resume=True)).metrics
    assert again == first


def test_nothing_kept_is_refused_by_what_needs_it():
    test, model = samples(5, 0), network()
    scores = record(model, inputs(test))
    with pytest.raises(Refusal, match="a batch or more"):
        by_confidence(Judged("network", model, test, test.take([]), test, scores))


def test_the_figure_has_a_line_for_each_way_of_stopping():
    curves = {"<b>": [{"steps": 1.0, "accuracy": 0.5, "threshold": 0.3}], "oracle": [{"steps": 1.0, "accuracy": 0.9}]}
    made = latency(curves)
    assert [trace.name for trace in made.data] == ["&lt;b&gt;", "oracle"]
    assert made.data[0].text == ("<br>threshold 0.3",) and made.data[1].line.dash == "dot"


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"a": [{"steps": 1}]}', '{"a": [{"steps": "1", "accuracy": 0.5}]}', '{"a": 3}']
)
def test_curves_that_are_none_are_refused_by_the_file(tmp_path: Path, text: str):
    (tmp_path / "latency.json").write_text(text)
    with pytest.raises(Refusal, match=r"latency\.json"):
        read(tmp_path / "latency.json")
