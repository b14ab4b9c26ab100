"""The page shows what the run left, nothing else, and asks the network for nothing."""

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.data.samples import Samples
from ranvier.lab.anatomy import anatomy, record
from ranvier.lab.anatomy.activity import read
from ranvier.lab.report import write
from ranvier.lab.report.activity import sample
from ranvier.lab.report.figures import curves
from ranvier.nn.coding.rate import RateDecoder

CLASSES = ("sit", "</script><script>alert(1)</script>", "<b>run</b>")
CLAIM = {"claim": "accuracy >= 0.9", "metric": "accuracy", "bound": 0.9, "origin": "our own target"}
EPOCHS = [{"fold": f, "epoch": e, "train loss": 2.0 - e - f / 2, "test accuracy": 0.1} for f in (0, 1) for e in (0, 1)]


def folder(path: Path, **facts: Any) -> Path:
    (path / "run.json").write_text(json.dumps({"recipe": "watch", **facts}))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run")
    model = nn.Sequential(nn.Linear(2, 9), ranvier.LIF(threshold=0.1), nn.Linear(9, 3), ranvier.LeakyIntegrator())
    model = nn.Sequential(*model, RateDecoder())
    x = [np.random.default_rng(i).normal(size=(n, 2)).astype("float32") for i, n in enumerate((30, 20))]
    samples = Samples(x, np.array([0, 2]), CLASSES, channels=("left", "right"), rate=10.0)
    examples = record(model, samples, path / "activity.safetensors")
    return folder(
        path,
        **{"summary": "Gestures.", "command": "ranvier run watch --seed 1", "seed": 1, "status": "finished"},
        **{
            "metrics": {"accuracy": 0.93, "forest: accuracy": 0.8},
            "claims": [{**CLAIM, "measured": 0.93, "held": True}],
        },
        **{"curves": EPOCHS, "classes": CLASSES, "confusion": [[3, 1, 0], [0, 2, 2], [0, 0, 4]], "examples": examples},
        **{"versions": {"torch": "2.13"}, "seconds": {"training": 75.0}, **anatomy(model, samples.batch()).entries()},
    )


def shown(page: Path) -> str:
    """The page without plotly.js, whose text holds everything."""
    return re.sub(r"<script>/\*\*.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_page_has_every_section(whole: Path) -> None:
    text = shown(write(whole))
    for id in ("results", "learning", "confusion", "sample", "layers", "operations", "repeat"):
        assert f'<section id="{id}"' in text and f'href="#{id}"' in text
    for words in (
        "The claim holds in this run.",
        "✓ held",
        "forest",
        "training 1 min 15 s",
        "neuron updates in 1 (LIF)",
    ):
        assert words in text
    assert "ranvier run watch --seed 1</pre>" in text


def test_the_page_asks_the_network_for_nothing(whole: Path) -> None:
    page = write(whole)
    text = shown(page)
    assert not re.search(r"https?:|//\w+\.|\ssrc=|<link|@import|url\(", text)
    assert "default-src 'none'" in text
    assert page.read_text(encoding="utf-8").count("* plotly.js v") == 1
    assert page.stat().st_size < 7e6


def test_names_are_text_and_never_markup(whole: Path) -> None:
    text = shown(write(whole))
    assert "<script>alert" not in text and "<b>run" not in text
    assert "&lt;b&gt;run" in text


def test_what_the_run_did_not_leave_is_left_out(tmp_path: Path) -> None:
    text = shown(write(folder(tmp_path, metrics={}, curves=[], claims=None, confusion=[], classes=["a"])))
    assert "<section" not in text and "Plotly" not in text
    assert "<h1>watch</h1>" in text


def test_a_run_that_did_not_end_says_so(tmp_path: Path) -> None:
    run = folder(tmp_path, status="interrupted", claims=[CLAIM, {**CLAIM, "measured": 0.5, "held": False}])
    text = re.sub(r"\s+", " ", shown(write(run)))
    assert "did not reach its end (status: interrupted)" in text
    assert "0 of 2 claims hold in this run; 1 does not; 1 was not measured." in text
    assert text.count("not measured</td>") == 1 and text.count("✗ not held") == 1


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ({"recipe": None}, "recipe"),
        ({"metrics": {"accuracy": "high"}}, "metrics.accuracy to be a number"),
        ({"metrics": {"accuracy": None}}, "metrics.accuracy"),
        ({"claims": [{"claim": "a"}]}, r"claims\[0\].origin"),
        ({"curves": [{"fold": 0}]}, r"curves\[0\].epoch"),
        ({"curves": {}}, "curves to be a list"),
        ({"classes": ["a", "b"], "confusion": [[1]]}, "confusion of 2 x 2"),
        ({"layers": [{"name": "0", "kind": "Linear", "per": "step"}]}, r"layers\[0\].parameters"),
        ({"seed": True}, "seed to be a whole number"),
    ],
)
def test_a_malformed_run_is_refused_by_file_and_place(tmp_path: Path, facts: dict[str, Any], missing: str) -> None:
    with pytest.raises(Refusal, match=rf"run\.json: expected {missing}"):
        write(folder(tmp_path, **facts))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=re.escape(str(tmp_path))):
        write(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(Refusal, match=r"run\.json"):
            write(tmp_path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "activity.safetensors").write_bytes(pickle.dumps({}))
    with pytest.raises(Refusal, match="pickle"):
        write(folder(tmp_path))


def test_the_thick_line_is_the_mean_of_the_folds() -> None:
    figure = curves(EPOCHS)
    named = {line.name: line for line in figure.data if line.name}
    assert list(named["train"].y) == [1.75, 0.75] and list(named["test"].y) == pytest.approx([0.1, 0.1])
    assert len(figure.data) == 2 * (2 + 1)


def test_every_spike_is_one_tick_at_its_time(whole: Path) -> None:
    seen = read(whole / "activity.safetensors")[0]
    figure = sample(seen, {"true": "sit", "predicted": "<b>run</b>"}, CLASSES)
    raster = next(line for line in figure.data if line.line.width == 3.0)
    step, neuron = np.nonzero(seen.layers[0].values.numpy())
    ticks = raster.x.reshape(-1, 3)
    np.testing.assert_allclose(ticks[:, 0], step / 10.0, rtol=1e-6)
    np.testing.assert_allclose(raster.y.reshape(-1, 3)[:, :2].mean(1), neuron, rtol=1e-5)
    assert np.isnan(ticks[:, 2]).all() and len(step) > 0


def test_the_readout_names_the_true_and_the_predicted_class(whole: Path) -> None:
    figure = sample(read(whole / "activity.safetensors")[1], {"true": "sit", "predicted": "<b>run</b>"}, CLASSES)
    assert [line.name for line in figure.data[-3:]] == [
        "other classes",
        "sit<br><i>true</i>",
        "&lt;b&gt;run&lt;/b&gt;<br><i>predicted</i>",
    ]
