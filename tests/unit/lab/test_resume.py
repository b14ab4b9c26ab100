"""A run that is stopped, killed or interrupted ends as one that was not, to the bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.data.samples import Batch, Samples, Split
from ranvier.lab import training
from ranvier.lab.classify import Classify
from ranvier.lab.loading import Order, in_order
from ranvier.lab.lock import alone
from ranvier.lab.machine import commit
from ranvier.lab.recipe import Recipe, Result, Session
from ranvier.lab.resume import begin, begun, finished, forget, left, locate, mixed
from ranvier.lab.run import resume, run_recipe
from ranvier.lab.training import train

ROOT = Path(__file__).parents[3]


def adam(model: nn.Module, steps: int) -> Any:
    made = torch.optim.AdamW(model.parameters(), 5e-3)
    return made, torch.optim.lr_scheduler.OneCycleLR(made, 1e-2, total_steps=steps)


class Noise(nn.Module):
    """Draws from each of the generators that a model may use."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x + 0.1 * torch.randn_like(x) + 0.1 * random.random() + 0.1 * float(np.random.rand())


def weights(model: nn.Module) -> Tensor:
    return torch.cat([t.flatten().double() for t in model.state_dict().values()])


def seeded(network: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    return nn.Sequential(*network().children(), Noise())


@pytest.mark.parametrize(("every", "ahead"), [(0.0, False), (1000.0, False), (0.0, True)])
def test_stopped_anywhere_and_resumed_gives_the_same_rows_and_weights(
    every: float,
    ahead: bool,
    network: Callable[[], nn.Module],
    split: Split,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    stops: list[int] = []

    def draw(samples: Samples, index: np.ndarray, generator: torch.Generator) -> Batch:
        nonlocal calls
        calls += 1
        if calls in stops:
            asked.stop.set()
        batch = samples.batch(index)
        return batch._replace(x=batch.x + 0.1 * torch.randn(batch.x.shape, generator=generator))

    def sitting(model: nn.Module, folder: Path, again: bool) -> list[dict[str, float]]:
        nonlocal asked
        folder.mkdir(exist_ok=True)
        asked = Session(folder, accelerator="cpu", progress=False, every=every, resume=again)
        return train(model, split, asked, epochs=4, batch=16, optimiser=adam, draw=draw)

    asked = session
    model = seeded(network)
    monkeypatch.setattr(training, "_a_processor_is_free", lambda device, processes: False)
    whole = sitting(model, session.folder / "whole", again=False)
    assert len(whole) == 4 and calls == 24
    # with the next batch made meanwhile: the same batches, some made twice
    monkeypatch.setattr(training, "_a_processor_is_free", lambda device, processes: ahead)
    # 6 batches an epoch: the first, in the middle, the last of an epoch, the first of the next, one in the last epoch
    calls, stops, rows, other = 0, [1, 4, 12, 13, 20], [], seeded(network)
    for sat in range(len(stops) + 1):
        other = seeded(network)
        rows = sitting(other, session.folder / "parts", again=sat > 0)
    assert (calls == 24 or ahead) and rows == whole
    assert torch.equal(weights(other), weights(model))
    kept = ranvier.load(session.folder / "parts" / "weights" / "model-0.safetensors")
    assert all(torch.equal(kept[k], v) for k, v in model.state_dict().items())


def test_the_order_is_a_function_of_seed_fold_and_epoch() -> None:
    def order(seed: int = 0, fold: int = 0, epoch: int = 0) -> list[int]:
        made = Order(50, 8, seed, fold)
        made.set_epoch(epoch)
        return [int(i) for batch in in_order(made) for i in batch]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = order()
    assert sorted(first) == list(range(50)) and first == order()
    assert torch.equal(torch.get_rng_state(), state), "loading draws from the generator of the network"
    assert len({tuple(o) for o in (first, order(seed=1), order(fold=1), order(epoch=1))}) == 4


def test_processes_share_the_order() -> None:
    parts = []
    for process in range(3):
        made = Order(10, 2, 0, 0)
        made.share(3, process)
        parts.append(list(made))
    assert [len(p) for p in parts] == [4, 4, 4] and {i for p in parts for i in p} == set(range(10))


def test_a_damaged_checkpoint_resumes_from_the_one_before(
    network: Callable[[], nn.Module], split: Split, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(name: str, row: Any) -> None:
        if row["epoch"] == 3:
            session.stop.set()

    (session.folder / "whole").mkdir()
    apart = replace(session, folder=session.folder / "whole")
    whole = train(seeded(network), split, apart, epochs=4, batch=32, optimiser=adam)
    train(seeded(network), split, replace(session, every=0.0, on_epoch=stop), epochs=4, batch=32, optimiser=adam)
    kept = session.folder / "checkpoints" / "model-0.safetensors"
    kept.write_bytes(kept.read_bytes()[:-9])
    session.stop.clear()
    rows = train(seeded(network), split, replace(session, resume=True), epochs=4, batch=32, optimiser=adam)
    assert rows == whole and "using the checkpoint before it" in caplog.text
    kept.write_bytes(b"")
    with pytest.raises(Refusal, match="Delete it to train this network from its start"):
        kept.with_name("model-0.before.safetensors").write_bytes(b"")
        train(seeded(network), split, replace(session, resume=True), epochs=4, batch=32, optimiser=adam)


def test_other_data_are_refused(network: Callable[[], nn.Module], split: Split, session: Session) -> None:
    def stop(name: str, row: Any) -> None:
        session.stop.set()

    train(network(), split, replace(session, on_epoch=stop), epochs=2, batch=32, optimiser=adam)
    session.stop.clear()
    fewer = split._replace(train=split.train.take(np.arange(80)))
    with pytest.raises(Refusal, match=r"expected the 90 training samples .* got 80"):
        train(network(), fewer, replace(session, resume=True), epochs=2, batch=32, optimiser=adam)


def test_what_is_finished_is_not_trained_again(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    def stop(name: str, row: Any) -> None:
        epochs.append((name, int(row["fold"]), int(row["epoch"])))
        if epochs[-1] == at:
            session.stop.set()

    def never_twice(split: Split, seed: int) -> Tensor:
        baselines.append(seed)
        return torch.eye(10)[[0] * len(split.test)]

    epochs: list[tuple[str, int, int]] = []
    baselines: list[int] = []
    fit = Classify(2, 32, 1e-2, folds=2, networks={"twin": network}, baselines={"zero": never_twice})
    recipe = Recipe(network, lambda fold: split, fit, (), "here")
    session = replace(session, on_epoch=stop)
    at: Any = None
    (session.folder / "whole").mkdir()
    whole = fit(recipe, replace(session, folder=session.folder / "whole"))
    everything, epochs, baselines = epochs, [], []
    done = None
    for at in (("network", 0, 2), ("network", 1, 1), ("twin", 0, 1), ("twin", 1, 2), None):
        session.stop.clear()
        done = fit(recipe, session)
        session = replace(session, resume=True)
        assert done.interrupted == (at is not None)
    assert done is not None and epochs == everything and len(baselines) == 2
    assert done.metrics == whole.metrics and done.curves == whole.curves and done.confusion == whole.confusion
    assert all(done.seconds[k] > 0 for k in whole.seconds) and whole.seconds.keys() == done.seconds.keys()
    assert done.model is not None and whole.model is not None
    assert torch.equal(weights(done.model), weights(whole.model))
    assert not list((session.folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = Session(Path(), accelerator="cpu", progress=False)
    return run_recipe("digits", {"smoke": "true"}, session, tmp_path_factory.mktemp("runs"), "").folder


def test_the_run_is_located_and_a_finished_one_says_so(smoke: Path) -> None:
    root = smoke.parents[1]
    assert locate("digits", "latest", root) == smoke == locate("digits", smoke.name, root) == locate("digits", str(smoke), root)  # fmt: skip
    assert finished(smoke)
    with pytest.raises(Refusal, match="expected a run under"):
        locate("smartwatch", "latest", root)
    with pytest.raises(Refusal, match="expected a run of smartwatch; got one of digits"):
        locate("smartwatch", str(smoke), root)
    with pytest.raises(Refusal, match=r"no run\.json there"):
        locate("digits", "nowhere", root)


@pytest.mark.parametrize(
    ("given", "fixed", "text"),
    [
        ({"lr": "1"}, {}, r"lr = 1\.0: expected lr = 0\.004"),
        ({}, {"seed": 3}, "seed = 3: expected seed = 0"),
        ({"smoke": "false"}, {}, "smoke"),
        ({}, {"precision": "64-true"}, "precision = 64-true: expected precision = 32-true"),
        ({}, {"threads": 7}, "threads = 7: expected threads = 1"),
        ({"learning": "1"}, {}, "setting of this recipe"),
    ],
)
def test_other_settings_are_refused(smoke: Path, given: Any, fixed: Any, text: str) -> None:
    with pytest.raises(Refusal, match=text):
        resume(smoke, given, Session(Path(), progress=False), fixed, "")


def test_a_run_that_another_process_works_in_is_not_resumed(smoke: Path) -> None:
    with alone(smoke), pytest.raises(Refusal, match=rf"process {os.getpid()} works in"):
        resume(smoke, {}, Session(Path(), progress=False), {}, "")


def test_runs_of_the_last_verify_are_told_from_older_and_other_ones(tmp_path: Path) -> None:
    def made(name: str, seed: int, **others: Any) -> Path:
        facts = {"recipe": "x", "status": "finished", "seed": seed, "settings": {"lr": 0.1}, "precision": "32-true",
                 "accelerator": "auto", "devices": "auto", "command": "ranvier verify x", "started": "2999-01-01T00:00:00+00:00"}  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({**facts, **others}))
        return tmp_path / name

    session = Session(Path())
    old = made("a", 0, started="2020-01-01T00:00:00+00:00")
    assert not begun(tmp_path) and left(tmp_path, {"lr": 0.1}, session) == {}
    begin(tmp_path, "ranvier verify x")
    mine = made("b", 0), made("c", 1, status="running")
    made("d", 2, command="ranvier run x"), made("e", 2, settings={"lr": 0.2}), made("f", 2, precision="64-true")
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "run.json").write_text("{}")  # killed at once
    assert begun(tmp_path) and left(tmp_path, {"lr": 0.1}, session) == dict(enumerate(mine))
    assert old.exists()
    forget(tmp_path)
    assert begun(tmp_path), "there are runs"


def test_a_verify_goes_on_with_its_seeds_and_says_what_differs(smoke: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    folder = root / "digits" / "earlier"
    shutil.copytree(smoke, folder)
    begin(root / "digits", "ranvier verify digits --smoke")
    facts = json.loads((folder / "run.json").read_text())
    facts |= {"command": "ranvier verify digits --smoke", "started": "2999-01-01T00:00:00+00:00", "commit": "another"}
    (folder / "run.json").write_text(json.dumps(facts))
    session = Session(Path(), accelerator="cpu", progress=False, resume=True)
    done = run_recipe("digits", {"smoke": "true"}, session, root, "")
    assert done.folder == folder and done.result.metrics == facts["metrics"] and not done.result.interrupted
    assert mixed([folder]) == [f"ranvier another, then {commit()}"] and mixed([smoke]) == []
    assert [path.name for path in (root / "digits").glob("*/")] == ["earlier"]


def test_a_resumed_run_has_the_threads_that_it_began_with(smoke: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(smoke, folder)
    facts = json.loads((folder / "run.json").read_text())
    assert facts["threads"] == 1
    (folder / "run.json").write_text(json.dumps({**facts, "threads": 2, "status": "failed", "error": "a full disk"}))
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classify, "__call__", lambda self, recipe, session: seen.append(torch.get_num_threads()) or Result({}))  # fmt: skip
        done = resume(folder, {}, Session(Path(), progress=False), {}, "")
    assert seen == [2] and torch.get_num_threads() == 1 and "error" not in done.facts


# One process that has imported everything and computed nothing forks all those that are to be killed.
KILLED = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import ranvier.lab.training
import sklearn.linear_model
from ranvier.lab.recipe import Session
from ranvier.lab.run import resume, run_recipe

root, given, signals, rng = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]), random.Random(7)

def child(folder):
    pid = os.fork()
    if pid == 0:
        try:
            import torch
            torch.set_num_threads(1)
            session = Session(Path(), accelerator="cpu", progress=False, every=0.0)
            if folder.exists():
                done = resume(next((folder / "digits").iterdir()), {}, session, {}, "resumed")
            else:
                done = run_recipe("digits", given, session, folder, "run")
            os._exit(130 if done.result.interrupted else 0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid

def wait(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def over(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

def saved():
    return [(p, p.stat().st_mtime_ns) for p in (root / "killed").rglob("checkpoints/*.safetensors") if p.exists()]

assert wait(child(root / "whole")) == 0
(facts,) = (root / "whole").glob("digits/*/run.json")
training = json.loads(facts.read_text())["seconds"]["training"]
ends = []
for number in signals:
    before = saved()
    pid = child(root / "killed")
    # after at least one checkpoint of its own, wherever it is then
    while saved() == before and not over(pid):
        time.sleep(0.002)
    time.sleep(rng.random() * 0.2 * training)
    if over(pid):
        break  # the machine was so busy that it got through
    os.kill(pid, number)
    ends.append(wait(pid))
ends.append(wait(child(root / "killed")))
print(json.dumps(ends))
"""


@pytest.mark.parametrize(
    ("given", "signals"),
    [
        ({"smoke": "true"}, [signal.SIGKILL] * 3),
        ({"epochs": "2"}, [signal.SIGKILL] * 3),
        ({"smoke": "true"}, [signal.SIGINT, signal.SIGTERM]),
    ],
    ids=["killed", "killed-longer", "interrupted"],
)
def test_killed_at_random_moments_ends_as_if_nothing_had_been(
    given: dict[str, str], signals: list[int], tmp_path: Path
) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path), json.dumps(given), json.dumps([int(s) for s in signals])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout.splitlines()[-1])
    wanted = [130 if s in (signal.SIGINT, signal.SIGTERM) else -s for s in signals]
    assert 1 < len(ends) <= len(signals) + 1 and ends == [*wanted[: len(ends) - 1], 0], (ends, done.stderr)
    (one,), (other,) = ([*(tmp_path / k / "digits").iterdir()] for k in ("whole", "killed"))
    for name in ("network-0", "cnn-of-equal-size-0"):
        a, b = ((f / "weights" / f"{name}.safetensors").read_bytes() for f in (one, other))
        assert a == b
    first, second = (json.loads((f / "run.json").read_text()) for f in (one, other))
    for key in ("metrics", "curves", "confusion", "claims", "layers", "examples"):
        assert first[key] == second[key]
    assert second["status"] == "finished" and len(second["sittings"]) >= len(ends)
    seconds = second["seconds"]
    assert seconds["total"] == pytest.approx(sum(s["seconds"] for s in second["sittings"]))
    assert sum(v for k, v in seconds.items() if k != "total") <= seconds["total"] + 1.0 * len(signals)
