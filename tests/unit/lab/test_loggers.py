import csv
import logging
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data.samples import Split
from ranvier.lab import loggers
from ranvier.lab.recipe import Session
from ranvier.lab.training import train


def adam(model: nn.Module, steps: int) -> Any:
    made = torch.optim.Adam(model.parameters(), 5e-3)
    return made, torch.optim.lr_scheduler.ConstantLR(made, 1.0)


def test_every_epoch_is_in_the_csv(network: Callable[[], nn.Module], split: Split, session: Session) -> None:
    session = replace(session, loggers=("csv",), settings={"lr": 5e-3})
    rows = train(network(), split, session, epochs=3, batch=32, optimiser=adam)
    (file,) = session.folder.glob("logs/model-0/sitting-1/metrics.csv")
    with file.open() as text:
        logged = list(csv.DictReader(text))
    for key in ("train loss", "train accuracy", "test loss", "test accuracy"):
        assert [float(line[key]) for line in logged if line[key]] == pytest.approx([row[key] for row in rows], rel=1e-6)
    assert "lr: 0.005" in file.with_name("hparams.yaml").read_text()


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_every_epoch_is_in_tensorboard_and_a_resumed_run_logs_beside_it(
    network: Callable[[], nn.Module], split: Split, session: Session
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    session = replace(session, loggers=("tensorboard", "csv"))
    rows = train(network(), split, session, epochs=3, batch=32, optimiser=adam)
    found = EventAccumulator(str(session.folder / "logs" / "model-0" / "sitting-1"))
    found.Reload()
    assert [e.value for e in found.Scalars("test accuracy")] == pytest.approx([r["test accuracy"] for r in rows])
    train(network(), split, replace(session, resume=True), epochs=3, batch=32, optimiser=adam)
    assert (session.folder / "logs" / "model-0" / "sitting-2" / "metrics.csv").exists()


def test_without_names_it_is_tensorboard_and_csv_and_none_when_small(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: object())
    assert loggers.chosen(None) == ("tensorboard", "csv") and loggers.chosen(None, smoke=True) == ()
    assert loggers.chosen(["none"]) == () and loggers.chosen(["csv", "wandb", "csv"]) == ("csv", "wandb")
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert loggers.chosen(None) == ("csv",)
    assert "TensorBoard is not installed" in caplog.text


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_logger_that_was_asked_for_and_is_not_there_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=rf"{name} is not installed. Install it with: pip install '{name}'"):
        loggers.chosen([name])


def test_an_unknown_logger_is_refused() -> None:
    with pytest.raises(Refusal, match="Did you mean 'tensorboard'"):
        loggers.chosen(["tensorbord"])


def test_wandb_and_mlflow_get_their_run_and_settings(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning.pytorch.loggers

    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def stand_in(name: str) -> Any:
        class Logger:
            def __init__(self, *args: Any, **options: Any) -> None:
                made.append((name, args, options))

            def log_hyperparams(self, facts: dict[str, Any]) -> None:
                made.append(("settings", (facts,), {}))

        return Logger

    for name in ("WandbLogger", "MLFlowLogger"):
        monkeypatch.setattr(lightning.pytorch.loggers, name, stand_in(name))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    loggers.make(replace(session, loggers=("wandb", "mlflow"), settings={"lr": 1.0}), "network-0")
    kinds = {name: options for name, _, options in made}
    assert kinds["WandbLogger"]["save_dir"] == session.folder / "logs"
    assert kinds["MLFlowLogger"]["tracking_uri"] == f"file:{session.folder / 'logs' / 'mlflow'}"
    assert made[-1][1] == ({"lr": 1.0, "seed": 0},)


def test_nothing_is_imported_and_no_folder_made_without_loggers(session: Session) -> None:
    assert loggers.make(session, "network-0") == [] and not Path(session.folder, "logs").exists()
