"""Lightning's loggers by name, each imported only when asked for, in the run's folder."""

import logging
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ranvier.core.checks import MissingPackage, Refusal, nearest
from ranvier.lab.recipe import Session

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

NAMES = ("tensorboard", "csv", "wandb", "mlflow")
_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "mlflow": ("mlflow",)}


def chosen(names: list[str] | None, smoke: bool = False) -> tuple[str, ...]:
    """The loggers that `--logger` names mean: TensorBoard and CSV by default, none for a smoke size.

    A default without its package is left out, which is said; one that was asked for is not.

    Raises: Refusal for an unknown name; MissingPackage for a logger that was asked for.

    >>> chosen(["csv"]), chosen(["none"]), chosen(None, smoke=True)
    (('csv',), (), ())
    """
    if names is None:
        if smoke:
            return ()
        if _there("tensorboard"):
            return "tensorboard", "csv"
        logging.getLogger("ranvier").warning(
            "TensorBoard is not installed, so epochs are logged as CSV only: pip install tensorboard, or --logger csv."
        )
        return ("csv",)
    for name in names:
        if name not in (*NAMES, "none"):
            raise Refusal("--logger", expected="a known logger", got=repr(name), do=nearest(name, [*NAMES, "none"]))
        if not _there(name):
            raise MissingPackage(_PACKAGES[name][0], _PACKAGES[name][0])
    return tuple(dict.fromkeys(name for name in names if name != "none"))


def make(session: Session, stem: str) -> "list[Logger]":
    """The session's loggers for one network in one fold; a resumed run logs to a folder beside the first one's."""
    if not session.loggers:
        return []
    from lightning.pytorch import loggers

    folder = session.folder / "logs"
    sitting = f"sitting-{len(list((folder / stem).glob('sitting-*'))) + 1}"
    run = f"{session.folder.parent.name} {session.folder.name} {stem}"
    made: list[Logger] = []
    for name in session.loggers:
        if name == "tensorboard":
            made.append(loggers.TensorBoardLogger(folder, name=stem, version=sitting, default_hp_metric=False))
        elif name == "csv":
            made.append(loggers.CSVLogger(folder, name=stem, version=sitting))
        elif name == "wandb":
            made.append(loggers.WandbLogger(name=run, save_dir=folder, project="ranvier"))
        elif name == "mlflow":
            # MLFLOW_TRACKING_URI names a server; without one its files lie with the run's
            tracking = os.environ.get("MLFLOW_TRACKING_URI", f"file:{(folder / 'mlflow').resolve()}")
            made.append(loggers.MLFlowLogger("ranvier", run_name=run, tracking_uri=tracking))
    facts = {**session.settings, "seed": session.seed}
    for logger in made:
        logger.log_hyperparams(facts)
    return made


def _there(name: str) -> bool:
    return name not in _PACKAGES or any(find_spec(package) is not None for package in _PACKAGES[name])
