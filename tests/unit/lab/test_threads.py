"""How many threads train fastest is measured once, and measuring leaves no trace."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.core.discovery import discover
from ranvier.data.samples import Split
from ranvier.lab import threads
from ranvier.lab.classify import Classify
from ranvier.lab.recipe import Recipe, Result, Session
from ranvier.lab.run import prepare
from ranvier.lab.threads import Choice, choose, measure


@pytest.fixture
def recipe(network: Callable[[], nn.Module], split: Split) -> Recipe:
    return Recipe(network, lambda fold: split, Classify(50, 16, 1e-2), (), "here")


def drawn() -> tuple[float, float, float]:
    return float(torch.rand(1)), float(np.random.rand()), random.random()


def test_measuring_changes_no_random_state_no_thread_and_no_folder(recipe: Recipe, session: Session) -> None:
    before = torch.get_num_threads()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = drawn()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    choice = measure(recipe, session, (1, 2))
    assert drawn() == expected and torch.get_num_threads() == before
    assert choice.seconds.keys() == {1, 2} and all(0 < s < 1 for s in choice.seconds.values())
    assert not list(session.folder.iterdir()) and not session.stop.is_set()


def test_each_number_has_its_batches_in_turn_and_a_slow_network_fewer(
    monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    def fit(recipe: Recipe, session: Session) -> Result:
        nonlocal clock
        while not session.stop.is_set():
            seen.append(torch.get_num_threads())
            clock += seconds[seen[-1]]
        return Result({})

    recipe = Recipe(nn.Identity, lambda fold: None, fit, (), "here")
    monkeypatch.setattr(threads, "perf_counter", lambda: clock)
    for seconds, best in (({1: 0.2, 2: 0.1}, 2), ({1: 0.2, 2: 0.19}, 1), ({1: 0.1, 2: 0.2}, 1)):
        clock, seen = 0.0, list[int]()
        choice = measure(recipe, session, (1, 2))
        assert seen == [1, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2], "the first question comes before any batch"
        assert choice.threads == best and choice.seconds == pytest.approx(seconds)
    clock, seen, seconds = 0.0, [], {1: 3.0, 2: 2.0}
    assert measure(recipe, session, (1, 2)).threads == 2 and seen == [1, 1, 1, 2, 2]


def test_a_fit_that_asks_nothing_keeps_one_thread(session: Session) -> None:
    recipe = Recipe(nn.Identity, lambda fold: None, lambda recipe, session: Result({}), (), "here")
    assert measure(recipe, session, (1, 2)) == Choice(1, {})


@pytest.mark.parametrize("name", list(discover("ranvier.recipes")))
def test_every_recipe_asks_after_each_batch_whether_to_stop(name: str, session: Session) -> None:
    try:
        recipe = prepare(name, {"smoke": "true"})[1]
        recipe.data(0)
    except (Refusal, MissingPackage) as why:
        pytest.skip(f"{name}: {why}")
    choice = measure(recipe, session, (1,))
    assert choice.threads == 1 and 0 < choice.seconds[1] < 5


def test_the_choice_is_kept_for_the_recipe_its_settings_and_the_machine(
    recipe: Recipe, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(recipe: Recipe, session: Session, numbers: tuple[int, ...]) -> Choice:
        calls.append(numbers)
        return Choice(4, {1: 0.002, 4: 0.001})

    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(threads, "measure", measured)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    first = choose("digits", recipe, {"width": 3}, session)
    assert first == Choice(4, {1: 0.002, 4: 0.001}) and calls == [(1, 4)]
    again = choose("digits", recipe, {"width": 3}, session)
    assert again == replace(first, earlier=True) and len(calls) == 1
    assert (
        str(again)
        == "Threads: 4 (a training batch takes 2.0 ms with 1 thread, 1.0 ms with 4 threads; measured earlier)"
    )
    choose("digits", recipe, {"width": 4}, session)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    choose("digits", recipe, {"width": 3}, session)
    assert calls == [(1, 4), (1, 4), (1, 2)]
    kept = [*(tmp_path / "cache" / "threads").iterdir()]
    assert len(kept) == 3 and json.loads(kept[0].read_text())["recipe"] == "digits"
    for path in kept:
        path.write_text("{")
    choose("digits", recipe, {"width": 3}, session)
    assert len(calls) == 4, "what can't be read is measured again"
    monkeypatch.setenv("RANVIER_CACHE", "/dev/null/nowhere")
    assert choose("digits", recipe, {"width": 3}, session) == first


@pytest.mark.parametrize(
    ("settings", "cores", "said", "options"),
    [
        ({"smoke": True}, 4, "", {}),
        ({}, 1, "", {}),
        ({}, 4, "1", {}),
        ({}, 4, "", {"accelerator": "cuda"}),
        ({}, 4, "", {"devices": 2}),
    ],
    ids=["smoke", "one-core", "environment", "accelerator", "processes"],
)
def test_nothing_is_measured_where_there_is_no_choice(
    settings: dict[str, bool],
    cores: int,
    said: str,
    options: dict[str, str | int],
    recipe: Recipe,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "measure", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert choose("digits", recipe, settings, replace(session, **options)) is None  # type: ignore[arg-type]
