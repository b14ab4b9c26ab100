"""A saved run outlives its data, and says what is wrong with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.core.files import load, save
from ranvier.data.sets.digits import Digits
from ranvier.lab.recipe import Session
from ranvier.lab.run import Run, run_recipe
from ranvier.lab.saved import load_run
from ranvier.lab.training import predict


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    session = Session(Path(), progress=False, accelerator="cpu")
    return run_recipe("digits", {"smoke": "true"}, session, tmp_path_factory.mktemp("runs"), "ranvier run", False)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run on a folder of constant signals, low and high."""
    root = tmp_path_factory.mktemp("own")
    for name, level in (("low", 0.0), ("high", 1.0)):
        (root / "data" / name).mkdir(parents=True)
        for k in range(5):
            x = level + 0.1 * np.random.default_rng([k, int(level)]).normal(size=(20 + k, 2))
            np.save(root / "data" / name / f"{k}.npy", x)
    session = Session(Path(), progress=False, accelerator="cpu")
    given = {"data": str(root / "data"), "smoke": "true", "width": "8"}
    return run_recipe("classify", given, session, root, "ranvier run", False), root / "data"


def test_a_saved_run_gives_the_accuracy_that_the_run_found(done: Run) -> None:
    saved = load_run(done.folder)
    samples = saved.judged_on()
    answer = saved.probabilities(samples).argmax(1).numpy()
    assert float(np.mean(answer == samples.y)) == done.result.metrics["accuracy"]
    assert done.result.model is not None
    assert np.allclose(saved.probabilities(samples), predict(done.result.model.cpu(), samples).softmax(1), atol=1e-5)


def test_a_data_set_is_judged_by_name(done: Run) -> None:
    saved = load_run(done.folder)
    samples, seen = saved.samples("digits:test")
    assert len(samples) == len(Digits().load("test")) and not seen.any()
    with pytest.raises(Refusal, match=r"samples: expected what the network takes|known classes"):
        saved.probabilities(saved.samples("smartwatch:test0")[0])
    with pytest.raises(Refusal, match="NAME:SPLIT"):
        saved.samples("nowhere")
    with pytest.raises(Refusal, match="which knows no files"):
        saved.predict("a.csv")


def test_it_works_after_its_data_are_gone(own: tuple[Run, Path], tmp_path: Path) -> None:
    run, data = own
    folder = tmp_path / "elsewhere"
    shutil.copytree(run.folder, folder)
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    facts = json.loads((folder / "run.json").read_text())
    facts["settings"]["data"] = str(tmp_path / "gone")
    (folder / "run.json").write_text(json.dumps(facts))
    saved = load_run(folder)
    assert saved.classes == ("high", "low")
    assert saved.predict(moved / "low" / "0.npy").argmax() == 1
    samples, seen = saved.samples(str(moved))
    assert len(samples) == 10 and seen.sum() == 8
    with pytest.raises(Refusal, match="gone: expected a folder"):
        saved.judged_on()


def test_its_own_test_part_is_that_of_the_run_even_with_new_files(own: tuple[Run, Path]) -> None:
    run, data = own
    before = load_run(run.folder).judged_on()
    np.save(data / "low" / "00.npy", np.ones((20, 2)))
    try:
        after = load_run(run.folder).judged_on()
    finally:
        (data / "low" / "00.npy").unlink()
    assert len(before) == 2 and all(np.array_equal(a, b) for a, b in zip(before.x, after.x, strict=True))


def test_padding_in_a_batch_changes_nothing(own: tuple[Run, Path]) -> None:
    saved = load_run(own[0].folder)
    samples, _ = saved.samples(str(own[1]))
    alone = np.stack([saved.probabilities(samples.take([i]))[0].numpy() for i in range(len(samples))])
    assert np.allclose(saved.probabilities(samples), alone, atol=1e-5)


def test_loading_leaves_the_random_state_alone(done: Run) -> None:
    import torch

    before = torch.get_rng_state()
    load_run(done.folder)
    assert torch.equal(torch.get_rng_state(), before)


def _status(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | changes))


def _other_width(folder: Path) -> None:
    path = folder / "weights" / "network-0.safetensors"
    save({k: v[..., :1] if v.ndim else v for k, v in load(path).items()}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "run.json").unlink(), "no run.json there"),
        (lambda f: (f / "run.json").write_text("{"), r"run.json: expected what a run writes"),
        (lambda f: (f / "run.json").write_text("{}"), r"run.json: expected what a run writes"),
        (lambda f: _status(f, status="interrupted"), "--resume"),
        (lambda f: _status(f, classes=[]), "tells classes apart"),
        (lambda f: _status(f, settings={"depth": 3}), "expected the run's settings.*depth"),
        (lambda f: _status(f, recipe="digit"), "Did you mean 'digits'"),
        (lambda f: (f / "weights" / "network-0.safetensors").unlink(), "expected the weights of that fold"),
        (lambda f: (f / "weights" / "network-0.safetensors").write_bytes(b"x" * 40), "whole safetensors"),
        (_other_width, "the weights of today's recipe"),
    ],
)
def test_what_is_wrong_with_a_run_is_said(done: Run, damage: object, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(done.folder, folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(Refusal, match=message):
        load_run(folder)


def test_a_damaged_format_and_another_fold_are_said(own: tuple[Run, Path], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"There are folds 0\."):
        load_run(own[0].folder, fold=3)
    folder = tmp_path / "run"
    shutil.copytree(own[0].folder, folder)
    (folder / "format.json").write_text("{}")
    with pytest.raises(Refusal, match="format: expected what a run writes"):
        load_run(folder)
    (folder / "format.json").unlink()
    with pytest.raises(Refusal, match=r"format.json: expected the format"):
        load_run(folder)
