"""Searching a recipe's settings with Optuna: trials asked and told here, run here or as Ray tasks on other machines."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from ranvier.core.checks import MissingPackage, NonFinite, Refusal, nearest
from ranvier.core.discovery import find
from ranvier.core.files import write_json
from ranvier.lab.lock import alone
from ranvier.lab.recipe import Recipe, Session, settings
from ranvier.lab.run import new_folder, prepare

Value = float | int | str | bool
Outcome = tuple[str, float | str | None]
"""How a trial ended: "complete" with its value, "pruned" with the last, "failed" with why, "interrupted" with None."""
AGAIN = "tried again"
"""What a trial notes that takes the place of one that was killed or interrupted: that one's number."""
_OTHER = "Give the same ones, or another study with --storage sqlite:///other.db."


@dataclass(frozen=True)
class Range:
    """From one number to another, both included; logarithmic where the factor between them counts."""

    low: float
    high: float
    whole: bool
    log: bool


Space = dict[str, Range | list[Value]]


def space(name: str, texts: Sequence[str]) -> Space:
    """What `--over` texts such as "lr=1e-4..1e-2" and "width=32,64" mean for the settings of recipe `name`.

    Floats over a factor of ten or more are searched on a logarithmic scale.

    Raises: Refusal for a setting that the recipe doesn't have, and for what is no range or list of its values.
    """
    function = find("recipe", name, "ranvier.recipes").load()
    known = signature(function).parameters
    found: Space = {}
    for text in texts:
        setting, equals, values = text.partition("=")
        if not equals or not values:
            raise Refusal("--over", expected="NAME=LOW..HIGH or NAME=A,B,C", got=repr(text), do="Write for instance --over lr=1e-4..1e-2.")  # fmt: skip
        if setting not in known:
            raise Refusal("--over", expected="a setting of this recipe", got=repr(setting), do=nearest(setting, known))
        low, dots, high = values.partition("..")
        if not dots:
            found[setting] = [settings(function, {setting: one})[setting] for one in values.split(",")]
            continue
        kind = known[setting].annotation
        if kind not in (int, float):
            raise Refusal(f"--over {setting}", expected="a list, such as A,B", got=repr(values), do="Only numbers have ranges.")  # fmt: skip
        a, b = (settings(function, {setting: one})[setting] for one in (low, high))
        if not a < b:
            raise Refusal(f"--over {setting}", expected="LOW..HIGH", got=repr(values), do="Give the smaller one first.")
        found[setting] = Range(a, b, kind is int, kind is float and a > 0 and b >= 10 * a)
    if not found:
        raise Refusal("sweep", expected="a setting to search", got="none", do=f"Write for instance --over {next(iter(known))}=LOW..HIGH.")  # fmt: skip
    return found


@dataclass(frozen=True)
class Sweep:
    """What is searched, and by what it is judged."""

    recipe: str
    over: Space
    given: Mapping[str, str]
    metric: str = "accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"
    trials: int = 20

    def judged_on(self) -> str:
        """What samples the metric is of: "validation" where the recipe offers that, else "test"."""
        return "test" if prepare(self.recipe, self.given)[1].validation is None else "validation"


def search(
    sweep: Sweep,
    session: Session,
    folder: Path,
    storage: str | None = None,
    ray: str | None = None,
    told: Callable[[Any], None] = lambda trial: None,
) -> Any:
    """Run trials until the study has `sweep.trials`, write sweep.json into `folder`, and return Optuna's study.

    The study lies in `storage`, by default sweep.db in `folder`, and goes on where it was: a trial that was killed is
    marked failed and tried again. Here, a trial whose accuracy in an epoch of the first fold is below the median of the
    others' is pruned; with `ray` ("local" or an address) trials run side by side and to their end. `told` gets each
    trial when it has ended. The metric is of the recipe's test samples unless it has `validation`, so a sweep's best
    value is no estimate of how good the network is: what was chosen by it must be judged on something else.

    Raises: MissingPackage without Optuna or Ray; Refusal for a metric that the recipe doesn't measure, and when another
    sweep works in the folder.
    """
    try:
        import optuna
    except ImportError:
        raise MissingPackage("optuna", "ranvier[sweep]") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder), _workers(ray) as workers:
        study = optuna.create_study(
            study_name=sweep.recipe,
            storage=storage or f"sqlite:///{folder / 'sweep.db'}",
            direction=sweep.direction,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(),
        )
        _same(study, sweep)
        before = study.get_trials(deepcopy=False)
        # the same seed again would ask for the same trials again
        study.sampler = optuna.samplers.TPESampler(seed=session.seed + len(before))
        for killed in (t for t in before if t.state == optuna.trial.TrialState.RUNNING):
            study.tell(killed.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(killed.params, user_attrs={AGAIN: killed.number})
        try:
            _rounds(study, sweep, session, folder, workers, told)
        finally:
            write_json(folder / "sweep.json", _facts(study, sweep))
    return study


def _rounds(
    study: Any, sweep: Sweep, session: Session, folder: Path, workers: "Workers", told: Callable[[Any], None]
) -> None:
    from optuna.trial import TrialState

    running: dict[Any, Any] = {}

    def wanted() -> int:
        counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        ended = study.get_trials(deepcopy=False, states=counted)
        again = sum(AGAIN in t.user_attrs for t in study.get_trials(deepcopy=False))
        return sweep.trials - (len(ended) - again) - len(running)

    while True:
        while len(running) < workers.places and not session.stop.is_set() and (wanted() > 0 or _waiting(study)):
            trial = study.ask()
            chosen = {name: _suggest(trial, name, values) for name, values in sweep.over.items()}
            texts = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in chosen.items()}
            given = {**sweep.given, **texts}
            place, resume = _place(study, trial, folder, prepare(sweep.recipe, given)[2])
            trial.set_user_attr("folder", place.name)
            mine = replace(session, folder=place, resume=resume)
            running[workers.start(sweep, given, mine, trial)] = trial
        if not running:
            return
        for handle, (how, what) in workers.ended(list(running)):
            trial = running.pop(handle)
            if how == "complete":
                study.tell(trial, what)
            elif how == "pruned":
                study.tell(trial, state=TrialState.PRUNED)
            else:
                trial.set_user_attr("why", what or how)
                study.tell(trial, state=TrialState.FAIL)
                if how == "interrupted":
                    study.enqueue_trial(trial.params, user_attrs={AGAIN: trial.number})
            told(study.trials[trial.number])
            if how == "refused":
                raise Refusal(
                    f"trial {trial.number} with {trial.params}",
                    expected="settings and a metric that the recipe has",
                    got=str(what),
                    do="See `ranvier run RECIPE --settings`.",
                )


def once(sweep: Sweep, given: Mapping[str, str], session: Session) -> Outcome:
    """Train with these settings and say how it ended; everything it writes is in the session's folder."""
    from ranvier.lab.run import carry_out

    try:
        _, recipe, every = prepare(sweep.recipe, given)
        facts = {"recipe": sweep.recipe, "settings": every, "seed": session.seed}
        done = carry_out(_for_choosing(recipe), session, facts, report=False)
    except NonFinite as error:
        return "failed", str(error)
    except Refusal as error:
        return "refused", str(error)
    if done.result.interrupted:
        return "interrupted", None
    if sweep.metric not in done.result.metrics:
        return "refused", f"no metric {sweep.metric!r}. {nearest(sweep.metric, done.result.metrics)}"
    return "complete", done.result.metrics[sweep.metric]


def _for_choosing(recipe: Recipe) -> Recipe:
    """Judged on the validation split where there is one, and alone: what stands beside the network is not chosen."""
    fit: Any = recipe.fit
    if hasattr(fit, "networks"):
        fit = replace(fit, networks={}, baselines={})
    return replace(recipe, data=recipe.validation or recipe.data, fit=fit)


class Workers(ABC):
    """Who runs trials."""

    places: int
    """How many at a time."""

    @abstractmethod
    def start(self, sweep: Sweep, given: Mapping[str, str], session: Session, trial: Any) -> Any:
        """Begin a trial; what comes back names it."""

    @abstractmethod
    def ended(self, handles: Sequence[Any]) -> list[tuple[Any, Outcome]]:
        """Those of the trials that have ended; waits for at least one."""


class _Here(Workers):
    """One after the other in this process, each watched by the pruner."""

    def __init__(self) -> None:
        self.places = 1
        self.outcomes: dict[int, Outcome] = {}

    def start(self, sweep: Sweep, given: Mapping[str, str], session: Session, trial: Any) -> Any:
        from threading import Event

        own, pruned = Event(), []

        def watch(name: str, row: Mapping[str, float]) -> None:
            if name == "network" and row["fold"] == 0:
                trial.report(row["test accuracy"], int(row["epoch"]))
                if trial.should_prune():
                    pruned.append(row["test accuracy"])
                    own.set()

        prunable = sweep.metric == "accuracy" and sweep.direction == "maximize"
        mine = replace(session, stop=own, on_epoch=watch if prunable else None)
        how, what = once(sweep, given, mine)
        if how == "interrupted" and pruned:
            how, what = "pruned", pruned[-1]
        elif own.is_set():
            session.stop.set()  # Ctrl-C was for the sweep
        self.outcomes[trial.number] = how, what
        return trial.number

    def ended(self, handles: Sequence[Any]) -> list[tuple[Any, Outcome]]:
        return [(handle, self.outcomes.pop(handle)) for handle in handles]


class _OnRay(Workers):
    """Ray tasks of one CPU each, as many at a time as the cluster has."""

    def __init__(self, ray: Any) -> None:
        self.ray = ray
        self.places = max(int(ray.cluster_resources().get("CPU", 1)), 1)

    def start(self, sweep: Sweep, given: Mapping[str, str], session: Session, trial: Any) -> Any:
        facts = {k: v for k, v in vars(session).items() if k not in ("stop", "on_epoch")}
        return self.ray.remote(num_cpus=1)(_on_worker).remote(sweep, dict(given), facts)

    def ended(self, handles: Sequence[Any]) -> list[tuple[Any, Outcome]]:
        done, _ = self.ray.wait(list(handles), num_returns=1)
        return [(handle, self._outcome(handle)) for handle in done]

    def _outcome(self, handle: Any) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(handle)
            return outcome
        except self.ray.exceptions.RayError as error:  # a machine went, or the recipe raised what we don't know
            return "failed", str(error).strip().splitlines()[-1]


def _on_worker(sweep: Sweep, given: Mapping[str, str], facts: Mapping[str, Any]) -> Outcome:
    import torch

    torch.set_num_threads(1)
    session = Session(**facts)
    session.folder.mkdir(parents=True, exist_ok=True)  # this machine may have a disk of its own
    return once(sweep, given, session)


@contextmanager
def _workers(address: str | None) -> "Iterator[Workers]":
    if address is None:
        yield _Here()
        return
    try:
        import ray
    except ImportError:
        raise MissingPackage("ray", "ranvier[ray]") from None
    dashboard = False if address == "local" else None
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=dashboard)
    try:
        yield _OnRay(ray)
    finally:
        ray.shutdown()


def _suggest(trial: Any, name: str, values: Range | list[Value]) -> Value:
    try:
        return _drawn(trial, name, values)
    except ValueError as error:
        raise Refusal(f"--over {name}", expected="the values that this study has searched before", got=str(error), do=_OTHER) from None  # fmt: skip


def _drawn(trial: Any, name: str, values: Range | list[Value]) -> Value:
    if isinstance(values, list):
        chosen: Value = trial.suggest_categorical(name, values)
    elif values.whole:
        chosen = trial.suggest_int(name, int(values.low), int(values.high))
    else:
        chosen = trial.suggest_float(name, values.low, values.high, log=values.log)
    return chosen


def _same(study: Any, sweep: Sweep) -> None:
    """Refuse to mix what can't be compared in one study."""
    about = {"metric": sweep.metric, "settings": dict(sweep.given), "judged on": sweep.judged_on()}
    theirs = study.user_attrs.get("about", about)
    if theirs != about:
        raise Refusal("sweep", expected=f"{theirs}, as in this study", got=str(about), do=_OTHER)
    study.set_user_attr("about", about)


def _place(study: Any, trial: Any, folder: Path, every: Mapping[str, Any]) -> tuple[Path, bool]:
    """A trial's folder, and whether it goes on in it: that of the trial that it tries again, or a new one."""
    if AGAIN in trial.user_attrs:
        old = folder / "sweep" / study.trials[trial.user_attrs[AGAIN]].user_attrs.get("folder", "")
        file = old / "run.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("settings") == every:
            return old, True
    return new_folder(folder / "sweep"), False


def _waiting(study: Any) -> bool:
    from optuna.trial import TrialState

    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def _facts(study: Any, sweep: Sweep) -> dict[str, Any]:
    trials = [
        {
            "trial": t.number,
            "state": t.state.name.lower(),
            "value": t.value,
            "settings": t.params,
            "seconds": t.duration.total_seconds() if t.duration else None,
            **t.user_attrs,
        }
        for t in study.trials
    ]
    return {
        "recipe": sweep.recipe,
        "metric": sweep.metric,
        "direction": sweep.direction,
        "judged on": sweep.judged_on(),
        "over": {k: v if isinstance(v, list) else vars(v) for k, v in sweep.over.items()},
        "given": dict(sweep.given),
        "trials": trials,
    }
